"""Which file holds the model that the user means. NumPy and torch are not imported here: the file decides what is needed."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from darkroom.system import dvc, git, params
from darkroom.system.errors import UserError

CHECKPOINT, EXPORTED = ".pth", ".onnx"  # suffixes

Read = Callable[[str], bytes | None]  # from a path in the project to the file's content; None if there is none


@contextmanager
def model_file(model: str | None, revision: str | None) -> Iterator[Path]:
    """Yield the file of the model that the user means.

    Args:
        model: A name from the project's list, or the path of a checkpoint or of an exported model. None: the project's model
            with the highest val accuracy, or, outside of a project, the only model in this folder.
        revision: The Git revision whose model it is; None: the file that lies here.

    Raises:
        UserError: There is no such model, or more than one.
    """
    if revision is None:
        yield _path(model)
        return
    if model and _is_path(model):
        raise UserError(
            f"--rev {revision} wants a model's name, and --model {model} is a path: say one of the project's list"
        )
    if not Path("dvc.yaml").exists():
        raise UserError(f"--rev {revision} wants the top folder of a project: go there, or do without")
    commit = dvc.commit(revision)
    with tempfile.TemporaryDirectory() as folder:
        name = model or _chosen_by_val(reader(revision), f"revision {revision}")
        target = Path(folder) / f"{name}{CHECKPOINT}"
        try:
            dvc.read("get", "--quiet", ".", f"models/{name}{CHECKPOINT}", "--rev", commit, "--out", str(target))
        except UserError:
            raise UserError(
                f"DVC cannot get models/{name}{CHECKPOINT} of {revision}: see its message above; `dvc pull --all-commits` gets "
                "what a remote has"
            ) from None
        yield target


def _is_path(model: str) -> bool:
    return bool(Path(model).suffix) or "/" in model


def _path(model: str | None) -> Path:
    """The file of the model that lies here."""
    if model and _is_path(model):
        return _file(Path(model))
    if params.PARAMS.exists():
        if model and model not in (names := params.models()):
            _file(Path(model))
            raise UserError(f"this project has no model {model!r}: its models are {', '.join(names)}")
        return Path(f"models/{model or _chosen_by_val(reader(None), 'this project')}{CHECKPOINT}")
    if model:
        _file(Path(model))
        beside = Path(f"{model}{CHECKPOINT}")
        hint = f"say {beside}" if beside.exists() else "name a file"
        raise UserError(f"--model {model} is a name, and there is no project here that has it in its list: {hint}")
    found = sorted(path for suffix in (CHECKPOINT, EXPORTED) for path in Path().glob(f"*{suffix}"))
    if len(found) != 1:
        there_are = f"{len(found)} models" if found else "no model"
        raise UserError(f"this folder has {there_are} (*{CHECKPOINT}, *{EXPORTED}): name one by --model")
    return found[0]


def _file(path: Path) -> Path:
    """The path itself. Raises UserError if it is a folder."""
    if path.is_dir():
        raise UserError(f"--model {path} is a folder: name the file in it")
    return path


def reader(revision: str | None) -> Read:
    """Reads files of a Git revision, or of the work tree."""
    if revision is None:
        return lambda path: Path(path).read_bytes() if Path(path).is_file() else None
    commit = dvc.commit(revision)
    return lambda path: git.show(commit, path)


def _chosen_by_val(read: Read, where: str) -> str:
    """The model with the highest val accuracy; among equal ones, that with the lowest val loss. Test decides nothing.

    Args:
        read: Reads a file of the project.
        where: What a message calls the project.

    Raises:
        UserError: No model is trained, or the results of one are damaged.
    """
    listed = (params.parse((read(str(params.PARAMS)) or b"{}").decode()) or {}).get("models", [])
    scores: dict[str, tuple[float, float]] = {}
    for name in listed:
        path = f"metrics/train_{name}.json"
        if content := read(path):
            try:
                found = json.loads(content)
                scores[name] = found["val_accuracy"], -found["val_loss"]
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path} of {where} is damaged: run `dvc repro`, or name a file by --model") from None
    if not scores:
        raise UserError(f"{where} has no trained model yet: run `make` or `dvc repro`, or name a file by --model")
    return max(scores, key=lambda name: scores[name])
