"""The epochs of a training: which one is kept, and what is written about them."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Epoch:
    """One epoch. Losses are means over images, in nats; accuracies are shares of images.

    The training loss and accuracy are those of augmented images, while the weights change. The training loss is the one that is
    minimised, with label smoothing and weights of classes; the val loss has neither. `lr` is the learning rate after the epoch's
    last step (of a fine-tuned model: the backbone's).
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float


def path(name: str) -> Path:
    """The CSV file of the epochs of the model `name`."""
    return Path(f"plots/train_{name}.csv")


def table(history: Sequence[Epoch]) -> tuple[list[str], list[tuple[float, ...]]]:
    """The header and the rows of that CSV file."""
    return [field.name for field in fields(Epoch)], [astuple(epoch) for epoch in history]


def best(history: Sequence[Epoch]) -> Epoch:
    """The best epoch on val: the highest accuracy, then the lowest loss, then the earliest."""
    return max(history, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))


def is_over(history: Sequence[Epoch], epochs: int, patience: int) -> bool:
    """Whether the training ends: after `epochs`, or when the last `patience` epochs (0: never) had no new best."""
    if patience and history and len(history) - best(history).epoch >= patience:
        return True
    return len(history) >= epochs


def summary(history: Sequence[Epoch]) -> dict[str, float]:
    """The metrics of the chosen epoch, its number, and how many epochs were run."""
    chosen = best(history)
    return {
        "best_epoch": chosen.epoch,
        "epochs": len(history),
        "train_accuracy": chosen.train_accuracy,
        "train_loss": chosen.train_loss,
        "val_accuracy": chosen.val_accuracy,
        "val_loss": chosen.val_loss,
    }


def describe(epoch: Epoch, epochs: int) -> str:
    """One line for people and logs. `darkroom tune` reads it."""
    return (
        f"epoch {epoch.epoch:3d}/{epochs}  train loss {epoch.train_loss:.3f} accuracy {epoch.train_accuracy:.3f}  "
        f"val loss {epoch.val_loss:.3f} accuracy {epoch.val_accuracy:.3f}"
    )


def explain(history: Sequence[Epoch], images: int) -> list[str]:
    """Lines for people and logs: which epoch was chosen, which ones tie with it, and whether val is too small to choose by.

    Args:
        history: The epochs of a training that has ended.
        images: The number of val images.
    """
    chosen = best(history)
    hits = round(chosen.val_accuracy * images)
    lines = [
        f"chosen: epoch {chosen.epoch} of {len(history)}, val accuracy {chosen.val_accuracy:.3f} ({hits} of {images} images)"
    ]
    ties = [epoch for epoch in history if epoch.val_accuracy == chosen.val_accuracy and epoch is not chosen]
    if ties:
        numbers = ", ".join(str(epoch.epoch) for epoch in ties)
        same = any(epoch.val_loss == chosen.val_loss for epoch in ties)
        decided = "the lowest val loss decided" + (", then the earliest epoch" if same else "")
        lines.append(f"the same val accuracy in epoch {numbers}: {decided}")
    # The chosen epoch is the best of many, so that its lead contains luck. A lead below one standard error may be luck alone.
    lead = chosen.val_accuracy - median(epoch.val_accuracy for epoch in history)
    error = standard_error(hits, images)
    if len(history) > 1 and error > lead:
        lines.append(
            f"val is too small to choose an epoch by: the accuracy of the chosen one is {lead:.3f} above that of the median "
            f"epoch, and its standard error on {images} images is {error:.3f}; split.ratio can give val more images"
        )
    return lines


def standard_error(hits: int, images: int) -> float:
    """The standard error of an accuracy, by Agresti and Coull 1998: it is not 0 if all images or none are right."""
    share = (hits + 2) / (images + 4)
    return math.sqrt(share * (1 - share) / (images + 4))
