"""The running statistics of BatchNorm, when a batch is computed shard by shard.

Each shard is normalised by its own mean and variance ("ghost batches", Hoffer et al. 2017). The running statistics follow the
means of these over the shards of a batch, weighted by the sizes of the shards, and change once a step, whoever computes what.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BUFFERS = "running_mean", "running_var"
STEPS = "num_batches_tracked"


class Statistics:
    """The running statistics of the layers that are in training mode, as one vector: one operation is faster than one for each.

    Attributes:
        of_pass: What the layers' buffers show: float32. A forward pass leaves its own statistics there.
        running: The running statistics, float32, of the same length.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
        self.layers = [layer for layer in layers if layer.training]
        self.momenta = [layer.momentum for layer in self.layers]
        self.steps = [int(layer.get_buffer(STEPS)) for layer in self.layers]
        buffers = [layer.get_buffer(name) for layer in self.layers for name in BUFFERS]
        self.of_pass = torch.cat([*buffers, next(model.parameters()).new_zeros(0)])
        self.running = self.of_pass.clone()
        self.counters = torch.tensor(self.steps, device=self.of_pass.device)
        places = iter(self.of_pass.split([len(buffer) for buffer in buffers]))
        # The layers' buffers become places in these vectors.
        for layer, counter in zip(self.layers, self.counters.unbind(), strict=True):
            layer.running_mean, layer.running_var, layer.num_batches_tracked = next(places), next(places), counter

    def of_shard(self, share: float) -> Tensor:
        """The statistics of the shard that was passed forward last, times its share of the batch."""
        return self.of_pass * share + 0.0  # + 0.0: no -0.0, which the shard before can leave

    def update(self, of_batch: Tensor) -> None:
        """Move the running statistics of the model towards those of a batch: the sum of `of_shard` over its shards."""
        self.steps = [steps + 1 for steps in self.steps]
        momenta = [
            1 / steps if momentum is None else momentum  # None: the mean of all batches
            for steps, momentum in zip(self.steps, self.momenta, strict=True)
        ]
        if len(set(momenta)) == 1:  # as in every usual network
            self.running.lerp_(of_batch, momenta[0])
        else:
            places = [2 * layer.num_features for layer in self.layers]
            for running, new, momentum in zip(self.running.split(places), of_batch.split(places), momenta, strict=True):
                running.lerp_(new, momentum)
        self.of_pass.copy_(self.running)
        self.counters.copy_(torch.tensor(self.steps), non_blocking=True)  # a pass counts itself, once for each shard


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
            for name in (*BUFFERS, STEPS):  # buffers of their own again
                setattr(layer, name, layer.get_buffer(name).clone())
