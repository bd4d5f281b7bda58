"""Predicting: passes through the network a second, against timm, fastai and a bare forward pass, and seconds from a cold start.

    python benchmarks/predict.py [--rounds 5] [--peers .venv-bench/bin/python]

In a project with trained models, on its test images. Every contender has the weights of models/finetune.pth. Ours averages over
the flips of the checkpoint; a view of an image is a pass. Each contender runs in a new process. A round is one run of each, and
ratios are of two runs of the same round.
"""

import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import common
from darkroom.inference.predict import files_of

CHECKPOINT, TEST = common.ROOT / "models/finetune.pth", common.ROOT / "data/split/test"
# name -> (script, its arguments after the checkpoint and the folder)
RUNS = {
    "ours": ("ours_predict.py", "views"),
    "ours, one view": ("ours_predict.py", "one"),
    "bare forward pass": ("forward_pass.py",),
    "timm": ("timm_predict.py",),
    "fastai": ("fast_ai_predict.py",),
}


def main() -> None:
    """Print the tables, and write them to predict.md."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peers", type=Path, help="the Python of an environment with fastai; without it, it is left out"
    )
    options = parser.parse_args()
    names = [name for name in RUNS if options.peers or name != "fastai"]
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for name in names:
            script, *arguments = RUNS[name]
            python = options.peers if name == "fastai" else common.command("python")[0]
            rates[name].append(
                float(common.run_contender(script, CHECKPOINT, TEST, *arguments, python=python).split()[-1])
            )
            print(f"{name}: {rates[name][-1]:.1f} passes a second", flush=True)
    ratios = {
        name: common.spread(ours / other for ours, other in zip(rates["ours"], rates[name], strict=True))
        for name in names
    }
    text = common.table(
        ["contender", "passes a second", "ours / this one"],
        [[name, common.spread(rates[name], ".0f"), "" if name == "ours" else ratios[name]] for name in names],
    )
    cold = cold_starts(options.rounds)
    text += "\n" + common.table(
        ["one image from a cold start", "seconds"], [[k, common.spread(v)] for k, v in cold.items()]
    )
    count = sum(1 for _ in files_of([str(TEST)]))
    versions = common.here("torch", "timm", "onnxruntime")
    versions += f", fastai {common.version_in(options.peers, 'fastai')}" if options.peers else ""
    text += (
        f"\nMedians (range) of n = {options.rounds} rounds over {count} test images. The files are decoded while the network "
        "computes; the bare pass has tensors that are ready. timm and fastai: batches of 64, two worker processes, two threads. "
        f"{versions}. `python benchmarks/predict.py --rounds {options.rounds} --peers PYTHON`\n"
    )
    common.publish(text, options.results / "predict.md" if options.rounds > 1 else None)


def cold_starts(rounds: int) -> dict[str, list[float]]:
    """Seconds of `darkroom predict` for one image, by what computes."""
    (image, *_) = files_of([str(TEST)])
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "m.onnx"
        command = common.command("darkroom", "export", "--model", str(CHECKPOINT), "--output", str(exported))
        subprocess.run(command, check=True, cwd=common.ROOT, stdout=subprocess.DEVNULL)
        for _ in range(rounds):
            for name, model in (("checkpoint, torch", CHECKPOINT), ("exported, ONNX Runtime", exported)):
                started = time.perf_counter()
                asked = common.command("darkroom", "predict", "--model", str(model), image)
                subprocess.run(asked, check=True, cwd=common.ROOT, capture_output=True)
                seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
