"""All of params.yaml, checked before the first stage runs: a stage checks its own sections only, perhaps minutes later."""

import importlib.util

from darkroom.system import lock, params, pipeline
from darkroom.system.trees import value_at


def is_changed() -> bool:
    """Whether params.yaml differs from what the stages ran with, or some stage has not run.

    Raises:
        UserError: params.yaml, dvc.yaml or dvc.lock cannot be read.
    """
    tree, ran = params.tree_of_params(), lock.read() if lock.LOCK.exists() else {}
    if pipeline.stages().keys() - ran.keys():
        return True
    return any(value_at(tree, key) != used for stage in ran.values() for key, used in lock.params(stage).items())


def check() -> None:
    """Check each section as the stage that reads it does. Imports torch. What a stage of the user's own reads is not known.

    Raises:
        UserError: A section is missing or unknown, or a key is unknown, missing, mistyped or out of range.
    """
    stages = pipeline.stages()
    params.refuse_unknown(pipeline.sections(stages))
    params.models()
    params.load("run", params.Run)
    params.load("images", params.Images)
    own = [name for name in stages if importlib.util.find_spec(f"darkroom.stages.{name}")]
    for name in own:
        params.load(name, importlib.import_module(f"darkroom.stages.{name}").Params)
