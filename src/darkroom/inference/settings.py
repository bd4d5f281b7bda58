"""How `darkroom predict` computes. It imports neither NumPy nor torch, which must be set up first (`determinism.prepare`)."""

from typing import Literal

from darkroom.system import parallel, params

Format = Literal["table", "csv", "json"]

# As the default run does, on all cores. The number of threads changes the last bits, which the six digits do not show.
RUN = params.Run(seed=0, threads=parallel.cores(), mode="portable", device="cpu", precision="float32")
