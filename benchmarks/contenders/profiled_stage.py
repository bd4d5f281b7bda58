"""A stage under Python's profiler.

    python profiled_stage.py STAGE FILE

In a project. Writes the profile of the main thread to FILE.
"""

import cProfile
import sys

from darkroom import runner

STAGE, FILE = sys.argv[1:]
profiler = cProfile.Profile()
code = profiler.runcall(runner.run_stage, STAGE)
profiler.dump_stats(FILE)
sys.exit(code)
