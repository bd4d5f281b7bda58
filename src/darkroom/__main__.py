"""`python3 src/darkroom STAGE`: what dvc.yaml calls.

A path, and not `python -m darkroom`, because `dvc exp run --queue` and `--temp` run in a copy of the project: the code
of that copy must run, and not the code of the folder that the package was installed from.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

PARENT = os.getppid()  # before the imports, which are slow: the parent may be killed meanwhile
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv"

# `.venv/bin/dvc repro` without the environment: `python3` in dvc.yaml is then another one.
if sys.version_info < (3, 11) or not all(map(find_spec, ("filelock", "pydantic", "yaml"))):
    python = ENVIRONMENT / "bin/python"
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve() or not python.exists():
        sys.exit(f"darkroom: {sys.executable} lacks the packages: run `make setup`, then `source .venv/bin/activate`")
    os.execv(python, [str(python), *sys.argv])
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from darkroom import runner  # noqa: E402  (only now is this the right darkroom)
from darkroom.system import process, role  # noqa: E402  (only now is this the right darkroom)

if "DVC_STAGE" in os.environ or role.of_this_process():
    process.end_with_parent(PARENT)  # else it would go on writing while the next `dvc repro` runs the same stage
if len(sys.argv) != 2 or sys.argv[1] not in runner.names():
    sys.exit(f"usage: python3 src/darkroom {{{','.join(runner.names())}}}")
sys.exit(runner.run_stage(sys.argv[1]))
