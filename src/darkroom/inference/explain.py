"""Where in an image the reason for a prediction lies, by Grad-CAM (Selvaraju et al. 2017)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom.inference import settings
from darkroom.inference.predictor import Explain
from darkroom.networks import forward, registry
from darkroom.system import device, parallel
from darkroom.system.errors import UserError


def of_model(model: registry.Model) -> Explain:
    """The function that explains predictions of `model`: see `Predictor.explain`.

    The value that is explained is the logarithm of the odds of the class, p / (1 - p), since a logit alone says little: only
    differences of logits count. The maps are averaged over the views over which probabilities are averaged.

    Raises:
        UserError: Captum is not installed, or the backbone has no maps.
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError:
        raise UserError("heat maps need Captum, which is not installed: `pip install -r requirements.txt`") from None
    layer = last_maps(model)

    def log_odds(images: Tensor) -> Tensor:
        logits = model.network(images)
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(2)
        return logits - others

    grad_cam = LayerGradCam(log_odds, layer)

    def explain(pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        model.network.to(device.choose(settings.RUN)).eval()
        target = torch.from_numpy(classes)
        torch.set_num_threads(parallel.cores())  # Captum cannot make several passes at a time
        views = [_maps(grad_cam, model, pixels, target, flip) for flip in forward.views(model.about)]
        torch.set_num_threads(settings.RUN.threads)
        return _scaled(torch.stack(views).mean(0), model.about.resolution)

    return explain


def _maps(grad_cam: Any, model: registry.Model, pixels: np.ndarray, target: Tensor, flip: tuple[int, ...]) -> Tensor:
    """The maps of one view, float32 (N, 1, h, w), flipped back. They have a sign: what speaks against the class is negative."""
    with torch.enable_grad(), device.precision(settings.RUN):
        found = [
            grad_cam.attribute(images, target[at : at + len(images)]).detach().float().cpu()
            for at, images in zip(
                range(0, len(pixels), forward.BATCH),
                forward.batches(pixels, model.about, settings.RUN, flip),
                strict=True,
            )
        ]
    maps = torch.cat(found)
    return maps.flip(flip) if flip else maps


def _scaled(maps: Tensor, resolution: int) -> np.ndarray:
    """What speaks for the class, as float32 (N, resolution, resolution); the strongest place of each image is 1."""
    maps = functional.interpolate(maps, (resolution, resolution), mode="bilinear", align_corners=False)[:, 0]
    maps = maps.clamp(min=0)
    strongest = maps.amax((1, 2), keepdim=True)
    return torch.where(strongest > 0, maps / strongest.clamp(min=1e-30), torch.zeros_like(maps)).numpy()


def last_maps(model: registry.Model) -> nn.Module:
    """The last module of the backbone, in the order in which they end, whose output has more than one place.

    Later ones see the image as a whole, so that none of them can say where. If this output is no map (N, C, H, W), but a list of
    patches as in a ViT, there is no such layer: the maps before the patches are far from the prediction.

    Raises:
        UserError: The backbone has none.
    """
    ended: list[tuple[nn.Module, torch.Size]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 2 and output[0].numel() > max(output.shape[1:]):
            ended.append((module, output.shape))

    backbone, side = model.network.backbone, model.about.resolution
    hooks = [module.register_forward_hook(note) for module in backbone.modules()]
    try:
        forward.predict(backbone, np.zeros((1, side, side, 3), np.uint8), model.about, settings.RUN)
    finally:
        for hook in hooks:
            hook.remove()
    module, shape = ended[-1] if ended else (None, torch.Size())
    # The input is a square, and so are maps. (N, H, W, C), as in timm's Swin, is none.
    if module is None or len(shape) != 4 or shape[2] != shape[3]:
        raise UserError(
            f"the {model.about.title} model cannot be explained: Grad-CAM needs maps, and {model.about.architecture} has none "
            "before its features; do without --explain, or use a convolutional backbone"
        )
    return module
