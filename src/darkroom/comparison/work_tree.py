"""The images of the work tree, also while data/manifest.csv is older than data/raw.

From a change of data/raw until the end of the stage split, the manifest does not list what data/raw holds. The rows are then read
from data/raw itself, and the images that the manifest does not list have no side.
"""

import hashlib
from collections.abc import Sequence
from functools import partial

from darkroom.data import manifest, samples, survey
from darkroom.data.layout import MANIFEST, RAW, TRACKED
from darkroom.data.manifest import NOT_SPLIT, Row
from darkroom.data.tracked import is_split
from darkroom.stages.split import Params
from darkroom.system import dvc, git, lock, params
from darkroom.system.errors import UserError
from darkroom.system.parallel import on_every_core

STALE = (
    f"`{MANIFEST}` is older than `{RAW}`: run `dvc add {RAW}` and `dvc repro split`, which gives each new image a side."
)


def read(old: Sequence[Row]) -> tuple[list[Row], bool]:
    """The rows of the work tree, and whether they were read from data/raw because the manifest is older.

    Args:
        old: The rows of the revision that the work tree is compared with. Contents that it has are not decoded again.

    Raises:
        UserError: data/raw is missing, and the manifest is missing or was made from other images than data/raw.dvc tracks.
    """
    git.refuse_elsewhere()
    made_from_tracked = _is_made_from_tracked()
    if RAW.is_dir():
        # DVC hashes only files whose time, size or inode it does not know.
        if made_from_tracked and dvc.call("status", "--quiet", str(TRACKED), quiet=True) == 0:
            return manifest.read(None), False
        listed = manifest.read(None) if MANIFEST.exists() else []
        return from_raw(listed, old), True
    rows = manifest.read(None)
    if TRACKED.exists() and not made_from_tracked:
        raise UserError(
            f"{MANIFEST} is older than {TRACKED}, and {RAW} is missing: get the images by `dvc checkout {TRACKED}` or "
            f"`dvc pull {TRACKED}`"
        )
    return rows, False


def _is_made_from_tracked() -> bool:
    """Whether dvc.lock says that the manifest, as it is, was made from the images that data/raw.dvc tracks."""
    if not (TRACKED.exists() and lock.LOCK.exists() and MANIFEST.exists()):
        return False
    stages, digest = lock.read(), hashlib.md5(MANIFEST.read_bytes()).hexdigest()
    return (
        is_split(TRACKED.read_text(encoding="utf-8"), stages)
        and lock.outs(stages.get("split", {})).get(str(MANIFEST)) == digest
    )


def from_raw(listed: Sequence[Row], old: Sequence[Row]) -> list[Row]:
    """A row for each file of data/raw. All files are read; contents that neither list has are decoded.

    Args:
        listed: The rows of the manifest. An image that it lists, under the same path and with the same content, keeps its side.
        old: The rows of another revision.

    Raises:
        UserError: The section `split` of params.yaml is not valid.
    """
    choices = params.load("split", Params)
    depth = 2 if choices.mode == "folders" else 1
    paths = sorted(survey.walk(RAW))
    reasons = {path: survey.refused_by_name(RAW, path, depth) for path in paths}
    readable = [path for path in paths if not reasons[path]]
    digests = dict(zip(readable, on_every_core(partial(survey.sha256, RAW), readable), strict=True))

    known = {(row.path, row.sha256): row for row in listed}
    usable = {row.sha256 for row in (*listed, *old) if not row.reason}
    new = [path for path in readable if digests[path] not in usable and (path, digests[path]) not in known]
    examined = survey.examine_all(RAW, choices.max_megapixels, new)
    reasons |= {path: content.reason for path, content in zip(new, examined, strict=True)}

    def row(path: str) -> Row:
        name, digest = survey.written(path), digests.get(path, "")
        if reasons[path]:
            return known.get((name, digest), Row(name, "", "left out", digest, reasons[path]))
        label, listed_row = samples.label_of(RAW, path, depth - 1), known.get((name, digest))
        if listed_row and (listed_row.reason or listed_row.label == label):
            return listed_row
        return Row(name, label, NOT_SPLIT, digest, "")

    return [row(path) for path in paths]
