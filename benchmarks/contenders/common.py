"""What all contenders share: the same network, weights, optimizer and number of images."""

import torch

RESOLUTION, BATCH, IMAGES, WARM_UP = 128, 32, 640, 3  # pixels, images, images timed, batches before


def network(name: str, classes: int) -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, or the small CNN of the default params."""
    from darkroom import models, weights

    if name == "small":
        return models.small_cnn(classes, width=32, blocks=5, dropout=0.0)
    backbone, features = models.without_head(weights.load_pretrained("tf_efficientnet_lite0", "default").model)
    return models.Classifier(backbone, features, classes)
