"""The running statistics of BatchNorm, when a batch is computed shard by shard.

Each shard is normalised by its own mean and variance ("ghost batches", Hoffer et al. 2017). The running statistics follow the
means of these over the shards of a batch, weighted by the sizes of the shards, and change once a step, whoever computes what.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BUFFERS = "running_mean", "running_var"


class Statistics:
    """The running statistics of the layers that are in training mode."""

    def __init__(self, model: nn.Module) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
        self.layers = [layer for layer in layers if layer.training]
        self.momenta = [layer.momentum for layer in self.layers]
        self.running = [buffer.clone() for buffer in self._buffers()]
        self.steps = [int(layer.get_buffer("num_batches_tracked")) for layer in self.layers]

    def of_shard(self, share: float) -> list[Tensor]:
        """The statistics of the shard that was passed forward last, times its share of the batch."""
        return [buffer * share + 0.0 for buffer in self._buffers()]  # + 0.0: no -0.0, which the shard before can leave

    def update(self, of_batch: list[Tensor]) -> None:
        """Move the running statistics of the model towards those of a batch: the sum of `of_shard` over its shards."""
        self.steps = [steps + 1 for steps in self.steps]
        for at, (buffer, running, new) in enumerate(zip(self._buffers(), self.running, of_batch, strict=True)):
            momentum = self.momenta[at // 2]  # None: the mean of all batches
            running.lerp_(new, 1 / self.steps[at // 2] if momentum is None else momentum)
            buffer.copy_(running)
        for layer, steps in zip(self.layers, self.steps, strict=True):
            layer.get_buffer("num_batches_tracked").fill_(steps)

    def _buffers(self) -> list[Tensor]:
        return [buffer for layer in self.layers for buffer in map(layer.get_buffer, BUFFERS)]


@contextmanager
def statistics(model: nn.Module) -> Iterator[Statistics]:
    """The running statistics of `model`. Within the block, a forward pass leaves nothing but those of its own shard."""
    kept = Statistics(model)
    for layer in kept.layers:
        layer.momentum = 1.0
    try:
        yield kept
    finally:
        for layer, momentum in zip(kept.layers, kept.momenta, strict=True):
            layer.momentum = momentum
