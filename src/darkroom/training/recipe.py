"""The params that all trainings by epochs share. params.yaml gives the reason of each default."""

from typing import Annotated, Literal

from pydantic import Field

from darkroom.system.params import Count, LearningRate, Section
from darkroom.training.augmentation import Augment


class Recipe(Section):
    """The keys that every section of such a training has."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Literal["sgd", "adamw"]
    lr: LearningRate
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1000)]
    schedule: Literal["one_cycle", "cosine", "constant"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]
    ema: Annotated[float, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    augment: Augment
