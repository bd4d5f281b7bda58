"""The epochs of a training: which one is kept, and what is written about them."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Epoch:
    """One epoch. Losses are means over images, in nats; accuracies are shares of images.

    The training loss and accuracy are those of augmented images, while the weights change. `lr` is the learning rate of the
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
