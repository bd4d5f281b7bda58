"""`darkroom predict` without the command line: files in, answers out.

    python ours_predict.py CHECKPOINT FOLDER views|one

`one`: without the flips. Prints passes a second: a view of an image is a pass.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from darkroom.inference import settings
from darkroom.system import determinism

determinism.prepare(settings.RUN)

from darkroom.evaluation import conformal  # noqa: E402
from darkroom.inference import from_checkpoint  # noqa: E402
from darkroom.inference.predict import files_of, predict  # noqa: E402
from darkroom.networks import forward, registry  # noqa: E402

WARM_UP = 32  # images

model = registry.load(Path(sys.argv[1]))
if sys.argv[3] == "one":
    model = replace(model, about=replace(model.about, flips=[]))
predictor = from_checkpoint.of_model(model)
limits = conformal.limits_of(predictor.known, len(predictor.classes))
paths = list(files_of([sys.argv[2]]))
list(predict(predictor, paths[:WARM_UP], limits))
started = time.perf_counter()
count = sum(1 for _ in predict(predictor, paths, limits))
print(count * len(forward.views(model.about)) / (time.perf_counter() - started))
