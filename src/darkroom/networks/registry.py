"""From an architecture's name, or from a checkpoint, to a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.networks import small_cnn
from darkroom.networks.backbones import imagenet_classifier
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


def load(path: str | Path) -> tuple[Classifier, About]:
    """The model that `save` wrote, in evaluation mode. No code in the file is run (`weights_only`).

    Raises:
        UserError: The file is missing, is not a checkpoint of ours, or its weights are another architecture's.
    """
    content = read_torch_file(path)
    try:
        about = About(**content["about"])
        model = build(about.architecture, about.options, len(about.classes))
        model.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path} is not a checkpoint of darkroom's: rebuild it with `dvc repro --force`") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else error
        raise UserError(
            f"{path} holds weights of another architecture than the {about.architecture} that it names ({reason}): "
            "rebuild it with `dvc repro --force`"
        ) from None
    return model.eval(), about
