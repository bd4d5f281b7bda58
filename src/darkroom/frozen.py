"""The frozen layers of a backbone: where they end, and what they make of each image, computed once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn

from darkroom import augment, device, params, training
from darkroom.checkpoint import About
from darkroom.errors import UserError
from darkroom.images import Folder, room_for
from darkroom.inference import as_tensor, batches, normalised


class _Tracer(fx.Tracer):
    """Takes as one step what timm says cannot be looked into, and each module without parts.

    Those (stochastic depth, say) then go by their own mode, training or evaluation, and not by that of the tracing.
    """

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = next(m.children(), None) is None or isinstance(m, tuple(get_notrace_modules()))
        return whole or super().is_leaf_module(m, module_qualified_name)


class _Rows(fx.Interpreter):
    """Notes of each step of a network whether it gives one tensor with a row an image, and no more."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.kept: dict[fx.Node, bool] = {}

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        self.kept[n] = isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == (2,)
        return output


def cut(backbone: nn.Module, share: float, resolution: int) -> tuple[nn.Module, nn.Module]:
    """Two networks that share their layers with `backbone` and, one after the other, compute the same.

    The cut is the last place where nothing but one tensor with a row an image passes and at most `share` of the layers that
    have parameters lie below. `resolution` is that of the images.

    Raises:
        UserError: torch.fx cannot follow this network's forward pass.
    """
    if share == 0:
        return nn.Identity(), backbone
    try:
        graph = _Tracer().trace(backbone.eval())
        rows = _Rows(fx.GraphModule(backbone, graph))
        with torch.no_grad():
            rows.run(torch.zeros(2, 3, resolution, resolution, device=next(backbone.parameters()).device))
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError) as error:
        raise UserError(
            f"this backbone cannot be cut in two ({str(error).splitlines()[0]}): set train_finetune.freeze to 0, "
            "or choose another train_finetune.backbone"
        ) from None
    # Arguments that have a default (a mask, say) are not given: here they are constants.
    constants = {node: node.args[0] for node in graph.nodes if node.op == "placeholder" and node.args}
    nodes = [node for node in graph.nodes if node not in constants]
    place = {node: index for index, node in enumerate(nodes)}
    last_use = [max((place[user] for user in node.users), default=-1) for node in nodes]
    layers = [node.op == "call_module" and any(True for _ in _module(backbone, node).parameters()) for node in nodes]
    best = 0
    for index in range(len(nodes) - 1):
        passing = [i for i in range(index + 1) if last_use[i] > index]
        if passing == [index] and rows.kept[nodes[index]] and sum(layers[: index + 1]) <= share * sum(layers):
            best = index

    lower, upper = fx.Graph(), fx.Graph()
    below: dict[fx.Node, Any] = dict(constants)
    for node in nodes[: best + 1]:
        below[node] = lower.node_copy(node, below.__getitem__)
    lower.output(below[nodes[best]])
    above: dict[fx.Node, Any] = {**constants, nodes[best]: upper.placeholder("maps")}
    for node in nodes[best + 1 :]:
        above[node] = upper.node_copy(node, above.__getitem__)
    return fx.GraphModule(backbone, lower), fx.GraphModule(backbone, upper)


def _module(backbone: nn.Module, node: fx.Node) -> nn.Module:
    return backbone.get_submodule(str(node.target))


def above(
    lower: nn.Module,
    folder: Folder,
    flips: list[tuple[int, ...]],
    how: augment.Augment,
    about: About,
    run: params.Run,
    memory: int,
) -> training.Source:
    """The images of `folder` as the layers above `lower` take them.

    Where an image can only be mirrored, what the frozen layers make of each of `flips`, its views, is computed once and
    kept, in half precision: the first layers see the largest maps, and so take most of a step's time. Else it is computed
    in each step. More than `memory` MiB are kept in a file.
    """
    source = training.pixels(folder, how, about, run)
    lower.eval()

    @torch.no_grad()
    def passed(images: Tensor) -> Tensor:
        with device.precision(run):
            maps: Tensor = lower(images)
        return maps.float()

    if not augment.is_flips_alone(how) or next(lower.parameters(), None) is None:
        return training.Source(
            source.labels, source.classes, lambda chosen, draws: passed(source.inputs(chosen, draws))
        )
    kept = keep(passed, folder, flips, about, run, memory)

    def inputs(chosen: Tensor, draws: Tensor | None) -> Tensor:
        view = 0 if draws is None else augment.which_view(draws, how).numpy()
        maps = torch.from_numpy(kept[view, chosen.numpy()]).to(device.choose(run))
        return _channels_first(maps.float())

    return training.Source(source.labels, source.classes, inputs)


def keep(
    passed: Callable[[Tensor], Tensor],
    folder: Folder,
    flips: list[tuple[int, ...]],
    about: About,
    run: params.Run,
    memory: int,
) -> np.ndarray:
    """What `passed` makes of each view of each image: float16 (views, N, H, W, C), or (views, N, ...) where it is no map.

    Raises:
        UserError: A number is beyond half precision.
    """
    kept: np.ndarray | None = None
    for view, flip in enumerate(flips):
        for batch in batches(len(folder.pixels)):
            images = as_tensor(folder.pixels[batch], device.choose(run))
            maps = _channels_last(passed(normalised(images.flip(flip) if flip else images, about))).half().cpu().numpy()
            if not np.isfinite(maps).all():
                raise UserError(
                    "the frozen layers of this backbone give numbers beyond half precision: set train_finetune.freeze to 0 "
                    "in params.yaml"
                )
            if kept is None:
                kept = room_for((len(flips), len(folder.pixels), *maps.shape[1:]), memory, np.float16)
            kept[view, batch] = maps
    assert kept is not None, "a folder holds an image or is refused"
    return kept


def _channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1) if maps.ndim == 4 else maps


def _channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2) if maps.ndim == 4 else maps
