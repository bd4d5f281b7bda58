"""`python src/darkroom STAGE`: what dvc.yaml calls.

A path, and not `python -m darkroom`, because `dvc exp run --queue` and `--temp` run in a copy of the project: the code
of that copy must run, and not the code of the folder that the package was installed from.
"""

import os
import sys
from pathlib import Path

PARENT = os.getppid()  # before the imports, which are slow: the parent may be killed meanwhile
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from darkroom import runner  # noqa: E402  (only now is this the right darkroom)
from darkroom.system import process  # noqa: E402  (only now is this the right darkroom)

if "DVC_STAGE" in os.environ:
    process.end_with_parent(PARENT)  # else it would go on writing while the next `dvc repro` runs the same stage
if len(sys.argv) != 2 or sys.argv[1] not in runner.names():
    sys.exit(f"usage: python src/darkroom {{{','.join(runner.names())}}}")
sys.exit(runner.run_stage(sys.argv[1]))
