"""`darkroom export`: a model as one ONNX file, from pixels to probabilities, held to what the checkpoint says."""

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from darkroom.inference import from_checkpoint, from_onnx, locate
from darkroom.inference.predict import chunks_of, files_of
from darkroom.inference.predictor import Predictor
from darkroom.networks import forward, registry
from darkroom.networks.calibration import calibrated, unlikeness
from darkroom.system import files, markdown
from darkroom.system.errors import UserError

OPSET = 20  # of ONNX; ONNX Runtime 1.17 and newer know it
TOLERANCE = 1e-4  # of a probability: kernels round differently, and a wrong preprocessing differs far more
TIMED, ROUNDS = 16, 3  # batches, and passes over them, whose median is shown


class FromPixels(nn.Module):
    """All of a model: normalisation, flips, network, temperature and softmax, and how unlike the training images it is."""

    def __init__(self, model: registry.Model) -> None:
        super().__init__()
        self.network, self.about, self.known = model.network, model.about, model.calibration

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """From uint8 (N, H, W, 3) to float32 probabilities (N, K) and unlikeness (N,). The views go through as one batch."""
        rgb = pixels.permute(0, 3, 1, 2).float()
        views = [rgb.flip(axes) if axes else rgb for axes in forward.views(self.about)]
        features = self.network.backbone(forward.normalised(torch.cat(views), self.about))
        logits = self.network.head(features).unflatten(0, (len(views), -1))
        of_image = features[: pixels.shape[0]]  # those of the first view, the image itself
        return calibrated(logits, self.known.temperature).float(), unlikeness(of_image, self.known.space).float()


@dataclass(frozen=True)
class Agreement:
    """How far two backends agree on N images.

    Attributes:
        count: N.
        difference: The largest difference of a probability.
        other: Images that get another class although their two largest probabilities are further apart than rounding explains.
        ties: Images that get another class and whose two largest probabilities are that close.
    """

    count: int
    difference: float
    other: int
    ties: int

    def refuse(self, target: Path) -> None:
        """Raise UserError if the two do not agree."""
        if self.difference > TOLERANCE or self.other:
            raise UserError(
                f"the exported model differs from the checkpoint by up to {self.difference:.1e} in a probability, and in the "
                f"class of {self.other} of {self.count} images: {target} is not written; use the checkpoint"
            )


def export(checkpoint: Path, check: str, target: Path) -> None:
    """Write the model of `checkpoint` to `target`, if it agrees with the checkpoint on the images of the folder `check`.

    Raises:
        UserError: The checkpoint cannot be used, there are no images to check on, or the two do not agree.
    """
    _refuse_unwritable(target)
    model = registry.load(checkpoint)
    if next(files_of([check]), None) is None:
        raise UserError(f"there is no image in {check} to check the exported model on: name a folder by --check")
    print(
        "darkroom export: writing the file, then asking it about every image of the check", file=sys.stderr, flush=True
    )
    content = as_onnx(model, files.sha256(checkpoint.read_bytes()))
    ours, exported = from_checkpoint.of_model(model), from_onnx.of_content(content, target)
    batches = tqdm(batches_of(check, model.about.resolution), "checking", unit="batch", leave=False, disable=None)
    agreement = compare(ours, exported, batches)
    if not agreement.count:
        raise UserError(f"no image in {check} can be read: name another folder by --check")
    agreement.refuse(target)
    sample = list(islice(batches_of(check, model.about.resolution), TIMED))
    rates = [images_a_second(predictor, sample) for predictor in (ours, exported)]
    files.write_bytes(target, content)
    markdown.show(table(agreement, (checkpoint, target), rates))


def _refuse_unwritable(target: Path) -> None:
    """Check that `target` can be written, before the work.

    Raises:
        UserError: It cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UserError(f"--output {target}: cannot be written ({error.strerror}): name another file") from None
    if target.exists() and target.suffix != locate.EXPORTED:
        raise UserError(
            f"--output {target}: there is such a file already, and it is none of export's: name another one"
        )


def as_onnx(model: registry.Model, sha256: str) -> bytes:
    """The ONNX file of a model: the same bytes for the same model and packages.

    Args:
        model: What the file holds.
        sha256: Of its checkpoint, for the metadata.

    Raises:
        UserError: A package is missing, or the exporter does not know a layer of the network.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError:
        raise UserError(
            "darkroom export needs more packages: `pip install -r requirements/extras/export.txt`"
        ) from None
    side = model.about.resolution
    probe = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            FromPixels(model).eval(),
            (probe,),
            dynamo=True,
            input_names=[from_onnx.INPUT],
            output_names=[from_onnx.PROBABILITIES, from_onnx.UNLIKENESS],
            dynamic_shapes=({0: torch.export.Dim("images")},),
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{model.about.architecture} cannot be exported ({reason}): use the checkpoint") from None
    assert program is not None
    proto = program.model_proto
    forget_origin(proto.graph)
    onnx.helper.set_model_props(proto, {from_onnx.KEY: json.dumps(metadata(model, sha256), ensure_ascii=False)})
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def forget_origin(graph: Any) -> None:
    """Remove from a GraphProto where each node comes from in the code: it names folders of this machine."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def metadata(model: registry.Model, sha256: str) -> dict[str, object]:
    """What one needs to know to use the file: see `from_onnx.load`."""
    known = model.calibration
    return {
        "format": from_onnx.FORMAT,
        "title": model.about.title,
        "classes": model.about.classes,
        "resolution": model.about.resolution,
        "checkpoint_sha256": sha256,
        "known": {
            "scores": known.scores.tolist(),
            "labels": known.labels.tolist(),
            "unlikeness": known.unlikeness.tolist(),
        },
    }


def batches_of(folder: str, resolution: int) -> Iterator[np.ndarray]:
    """The images of a folder that can be read, in batches as `predict` has them: uint8 (N, resolution, resolution, 3)."""
    for chunk in chunks_of(files_of([folder]), resolution):
        if known := [content for _, content in chunk if isinstance(content, np.ndarray)]:
            yield np.stack(known)


def compare(ours: Predictor, exported: Predictor, batches: Iterable[np.ndarray]) -> Agreement:
    """How far two predictors agree on batches of pixels."""
    count = other = ties = 0
    difference = 0.0
    for pixels in batches:
        a, b = ours.answer(pixels)[0], exported.answer(pixels)[0]
        difference = max(difference, float(np.abs(a - b).max()))
        second, first = np.sort(a, axis=1)[:, -2:].T
        moved = a.argmax(1) != b.argmax(1)
        close = first - second <= 2 * TOLERANCE
        count, other, ties = count + len(a), other + int((moved & ~close).sum()), ties + int((moved & close).sum())
    return Agreement(count, difference, other, ties)


def images_a_second(predictor: Predictor, batches: Sequence[np.ndarray]) -> float:
    """How many images of `batches` a predictor answers in a second."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for pixels in batches:
            predictor.answer(pixels)
        rounds.append(time.perf_counter() - started)
    return sum(map(len, batches)) / float(np.median(rounds))


def table(agreement: Agreement, paths: tuple[Path, Path], rates: list[float]) -> str:
    """What was found, as Markdown."""
    rows = [
        f"| {name} | {markdown.cell(str(path))} | {path.stat().st_size / 1e6:.1f} | {rate:.0f} |"
        for name, path, rate in zip(("torch", "ONNX Runtime"), paths, rates, strict=True)
    ]
    tied = f", {agreement.ties} of a tie" if agreement.ties else ""
    return "\n".join(
        [
            "| computed by | file | MB | images a second here |",
            "|---|---|---:|---:|",
            *rows,
            "",
            f"On {agreement.count} images the probabilities differ by at most {agreement.difference:.1e}; "
            f"{agreement.other + agreement.ties} images get another class{tied}.",
            "",
        ]
    )
