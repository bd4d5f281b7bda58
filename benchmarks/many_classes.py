"""Time, memory and files of evaluate and compare for many classes and test images, with simulated answers: no network runs.

    python benchmarks/many_classes.py [10x100000 100x10000 1000x10000 1000x100000]

Two models, on two commits. Each step is a process of its own, whose time and memory the kernel counts. Of evaluate it is all that
follows the forward pass. Three quarters of the images of the manifest are on other sides.
"""

import tempfile
from pathlib import Path

import common
from darkroom.system import git

RAISED = 0.5  # how much more in head
SHOWN = ("plots/predictions.csv", "plots/roc.csv", "data/manifest.csv")


def main() -> None:
    """Print the table, and write it to many_classes.md."""
    parser = common.parser(__doc__)
    parser.add_argument("sizes", nargs="*", metavar="CLASSESxIMAGES", help="how many classes and test images")
    options = parser.parse_args()
    sizes = options.sizes or ["10x100000", "100x10000", "1000x10000", "1000x100000"]
    pairs = [tuple(map(int, size.split("x"))) for size in sizes]
    header = ["classes", "test images", "evaluate (s)", "peak (MiB)", "compare (s)", "peak (MiB)"]
    header += [f"{Path(path).name} (MB)" for path in SHOWN] + ["all files in Git (MB)"]
    text = common.table(header, [row(*pair) for pair in pairs], text=())
    text += f"\nTwo models, n = 1. {common.here()}.\n\n`python benchmarks/many_classes.py {' '.join(sizes)}`\n"
    common.publish(text, options.results / "many_classes.md")


def row(classes: int, images: int) -> list[str]:
    """What evaluate and compare take, and what they write."""
    with tempfile.TemporaryDirectory() as temporary:
        project = common.make_project(Path(temporary))
        (project / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")
        git.read("init", "--quiet", "--initial-branch", "main", cwd=project)
        git.read("config", "user.name", "Benchmarks", cwd=project)
        git.read("config", "user.email", "benchmarks@example.org", cwd=project)
        evaluated = []
        for raised in (0.0, RAISED):
            command = common.contender_command("many_answers.py", classes, images, raised)
            evaluated.append(common.cost_of(command, project))
            common.commit(project, f"Raised by {raised}")
        compared = common.cost_of(common.command("darkroom", "compare", "HEAD~1", "HEAD"), project)
        megabytes = {path: (project / path).stat().st_size / 1e6 for path in SHOWN}
        listed = git.read("ls-files", "data", "metrics", "plots", cwd=project).splitlines()
        every = sum((project / path).stat().st_size for path in listed) / 1e6
    seconds = [evaluated[1].seconds, compared.seconds]
    peaks = [evaluated[1].peak, compared.peak]
    numbers = [f"{number:,.0f}" for both in zip(seconds, peaks, strict=True) for number in both]
    return [f"{classes:,}", f"{images:,}", *numbers, *(f"{size:,.1f}" for size in (*megabytes.values(), every))]


if __name__ == "__main__":
    main()
