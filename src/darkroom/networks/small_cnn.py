"""A small convolutional network, trained from random weights."""

from collections import OrderedDict

import torch
from torch import nn

from darkroom.networks.classifier import Classifier

NAME = "small_cnn"


def small_cnn(classes: int, width: int, blocks: int, dropout: float) -> Classifier:
    """Blocks of convolution, BatchNorm and ReLU, each halving the side, then global average pooling.

    Args:
        classes: The number of classes.
        width: Channels of the first block; each further block doubles them, up to 8 times.
        blocks: How many blocks; the input's side must be at least twice 2 to their power.
        dropout: The share of features dropped before the head while training.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for index in range(blocks):
        wider = width * min(2**index, 8)
        # The first convolution strides: at full resolution it would take most of the time and tell little more.
        stride = 2 if index == 0 else 1
        layers[f"block{index + 1}"] = nn.Sequential(
            nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        channels = wider
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    model = Classifier(nn.Sequential(layers), nn.Linear(channels, classes), dropout)
    return model.to(memory_format=torch.channels_last)  # the fast one on CPUs and GPUs; BatchNorm rounds by the format
