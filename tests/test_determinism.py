"""Portable mode: each library says itself that it uses nothing beyond AVX2."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.fast

# A process of its own, because the settings are read once. oneDNN prints its instruction set to standard output.
ASK = """
from darkroom.system import determinism, params
determinism.prepare(params.Run(seed=1, threads=2, shards=1, mode="portable", device="cpu", precision="float32"))
import json, ctypes
import numpy as np, sklearn, threadpoolctl, torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
torch.nn.Conv2d(8, 8, 3)(torch.zeros(2, 8, 16, 16))
np.ones((64, 64)) @ np.ones((64, 64))
print(json.dumps({
    "numpy": {name: __cpu_features__[name] for name in __cpu_dispatch__},
    "torch": torch.backends.cpu.get_cpu_capability(),
    "openblas": [each["architecture"] for each in threadpoolctl.threadpool_info() if each["internal_api"] == "openblas"],
    "variables": determinism.PORTABLE,
}))
"""


@pytest.fixture(scope="module")
def said() -> tuple[list[str], dict[str, Any]]:
    """The lines that oneDNN printed, and the answers of the other libraries."""
    variables = {**os.environ, "ONEDNN_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", ASK], env=variables, capture_output=True, text=True, check=True)
    *lines, answers = done.stdout.splitlines()
    return lines, json.loads(answers)


def test_numpy_is_limited_by_names_that_it_knows(said: tuple[list[str], dict[str, Any]]) -> None:
    """NumPy 2.4 renamed its features, and the old names did nothing. This also fails on a CPU without AVX-512."""
    _, answers = said
    beyond = answers["numpy"].keys() - {"X86_V3"}
    assert set(answers["variables"]["NPY_DISABLE_CPU_FEATURES"].split()) == beyond
    assert not any(answers["numpy"][name] for name in beyond)


def test_torch_onednn_and_openblas_are_limited(said: tuple[list[str], dict[str, Any]]) -> None:
    lines, answers = said
    assert answers["torch"] == "AVX2"
    assert any(line.endswith("isa:Intel AVX2") for line in lines)
    assert set(answers["openblas"]) == {"Haswell"}
