"""The model of a file that `darkroom export` wrote, computed by ONNX Runtime. No torch is needed."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.inference.predictor import Predictor
from darkroom.system import parallel
from darkroom.system.errors import UserError

FORMAT = 1  # of the metadata; another number is another version's
KEY = "darkroom"  # of the metadata in the file
INPUT, PROBABILITIES, UNLIKENESS = "pixels", "probabilities", "unlikeness"


def load(path: Path) -> Predictor:
    """The model in the file `path`.

    Raises:
        UserError: ONNX Runtime is not installed; the file is missing, or is no file of `darkroom export`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check its name, or write it by `darkroom export`"
        ) from None
    return of_content(content, path)


def of_content(content: bytes, path: Path) -> Predictor:
    """The model in the bytes of an exported file, which messages call `path`.

    Raises:
        UserError: ONNX Runtime is not installed, or this is no file of `darkroom export`.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path} needs ONNX Runtime: `pip install -r requirements/extras/predict.txt`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = parallel.cores()
    options.log_severity_level = 4  # its own messages on a broken file: ours follows
    # By default the first session switches denormal numbers on in the whole process, and torch's sums would round differently.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no common class
        raise UserError(f"{path} cannot be read as an ONNX file: write it again by `darkroom export`") from None
    about = metadata(session.get_modelmeta().custom_metadata_map, path)

    def answer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, unlikeness = session.run([PROBABILITIES, UNLIKENESS], {INPUT: pixels})
        return probabilities.astype(np.float64).round(6), unlikeness.astype(np.float64)

    of_val = (
        np.array(about["known"]["scores"], np.float64),
        np.array(about["known"]["labels"], np.int64),
        np.array(about["known"]["unlikeness"], np.float64),
    )
    source = about["checkpoint_sha256"]
    return Predictor(about["title"], about["classes"], about["resolution"], of_val, answer, source)


def metadata(of_file: dict[str, str], path: Path) -> dict[str, Any]:
    """What `darkroom export` wrote beside the network.

    Raises:
        UserError: It did not write this file, or was another version.
    """
    try:
        about: dict[str, Any] = json.loads(of_file[KEY])
    except (KeyError, ValueError):
        raise UserError(
            f"{path} was not written by `darkroom export`, which adds what is needed to use a model"
        ) from None
    if about.get("format") != FORMAT:
        raise UserError(f"{path} was exported by another version of Darkroom: export it again, or use that version")
    return about
