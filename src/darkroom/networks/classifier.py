"""What every model is: a backbone that ends in pooled features, and a linear head."""

import copy

import torch
from torch import Tensor, nn

from darkroom.system.errors import UserError


class Classifier(nn.Module):
    """A backbone that ends in pooled features, and a linear head.

    Args:
        backbone: (N, 3, H, W) float32 to (N, features) float32.
        head: The layer from features to logits.
        dropout: The share of features dropped before the head while training.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 (N, classes)."""
        logits: Tensor = self.head(self.dropout(self.backbone(images)))
        return logits


def check(model: Classifier, resolution: int, way_out: str) -> None:
    """Check that `model` can be trained on images of `resolution` pixels. `way_out` says what the user can change.

    Raises:
        UserError: It cannot take images of this size, or does not return plain logits in training mode.
    """
    probe = copy.deepcopy(model).train()
    try:
        with torch.no_grad():
            logits = probe(torch.zeros(2, 3, resolution, resolution).contiguous(memory_format=torch.channels_last))
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"this network cannot be trained on {resolution} px squares ({reason}): {way_out}, or change "
            "images.resolution in params.yaml"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape != (2, model.head.out_features):
        raise UserError(
            "this backbone does not give one row of features an image: choose another train_finetune.backbone"
        )
