"""From an architecture's name, or from a checkpoint, to a network."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from darkroom.networks import small_cnn
from darkroom.networks.backbones import imagenet_classifier
from darkroom.networks.calibration import Calibration, from_tree
from darkroom.networks.checkpoint import About, read_torch_file
from darkroom.networks.classifier import Classifier
from darkroom.system.errors import UserError


def build(architecture: str, options: Mapping[str, Any], classes: int) -> Classifier:
    """A classifier with fresh weights from torch's global generator.

    Args:
        architecture: `small_cnn`, or a name that `backbones.imagenet_model` knows.
        options: The further arguments of the function that builds it.
        classes: The number of classes.

    Raises:
        UserError: There is no such architecture.
        TypeError: It does not take these options.
    """
    if architecture == small_cnn.NAME:
        return small_cnn.small_cnn(classes=classes, **options)
    return imagenet_classifier(architecture, classes=classes, **options)


@dataclass(frozen=True)
class Model:
    """All that a checkpoint holds to use it: the network, in evaluation mode, and what is known about it."""

    network: Classifier
    about: About
    calibration: Calibration


def load(path: str | Path) -> Model:
    """The model that `checkpoint.save` wrote. No code in the file is run (`weights_only`).

    Raises:
        UserError: The file is missing, is no Darkroom checkpoint, is from an earlier version, or has weights of another
            architecture.
    """
    content = read_torch_file(path)
    try:
        described, weights = content["about"], content["state_dict"]
        needed = {"calibration", *(field.name for field in fields(About))}
        if missing := sorted(needed - content.keys() - described.keys()):
            raise UserError(
                f"{path} was made by an earlier version of Darkroom (it lacks {', '.join(missing)}): "
                "rebuild it with `dvc repro`"
            )
        about = About(**described)
        model = build(about.architecture, about.options, len(about.classes))
        model.load_state_dict(weights)
        calibration = from_tree(content["calibration"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path} is not a checkpoint of darkroom's: rebuild it with `dvc repro --force`") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else error
        raise UserError(
            f"the weights in {path} do not fit {about.architecture}, the architecture that it names ({reason}): "
            "rebuild it with `dvc repro --force`"
        ) from None
    return Model(model.eval(), about, calibration)
