"""The sides of the split that a training reads."""

from darkroom.data.images import Folder, load_folder
from darkroom.data.layout import SPLIT
from darkroom.system import params


def load_train_and_val() -> tuple[Folder, Folder]:
    """The training and the validation images.

    Raises:
        UserError: One side of the split is missing, or cannot be decoded.
    """
    images = params.load("images", params.Images)
    train = load_folder(SPLIT / "train", images.resolution, images.memory)
    return train, load_folder(SPLIT / "val", images.resolution, images.memory, train.classes)
