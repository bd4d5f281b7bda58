"""The command `darkroom`. Each subcommand is a few lines that call another package."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from darkroom import runner
from darkroom.inference import locate, settings
from darkroom.system import dvc, git, markdown, params
from darkroom.system.errors import UserError, in_words

FAIL_ON = "Exit with 1 if there is evidence, at the 5 % level, that an accuracy, in all or in one class, is worse."
MAX_DROP = "Exit with 1 if METRIC falls by more than DROP, of any model or of MODEL. May be repeated."
WAY_BACK = "These results are not committed: `git checkout -- . && dvc checkout` goes back to the last commit."
MODEL = "A name from the project's list, or a checkpoint or exported file. Default: the best one on val."
REV = "The Git revision whose model it is, such as v1.2."
JOBS = "How many run at a time. Default: as many as the cores allow."
DEFAULT_BASE = "Default: the commit at which this branch left main."

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train classifiers on a folder of images, compare them, and compare revisions of the project.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(metadata.version("darkroom"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """The options of the command itself."""


def main() -> None:
    """Run the command. What a user can mend is printed as one line, and the exit code is then 2."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names of files may be no UTF-8
    try:
        app()
    except Exception as error:
        if not (sentence := in_words(error)):
            raise
        print(f"darkroom: {sentence}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run(
    force: Annotated[
        bool, typer.Option("--force", help="Run every stage, also those whose inputs are the same.")
    ] = False,
) -> None:
    """Get data/raw if it is missing, run `dvc repro`, write the model cards, and print the results as a table."""
    from darkroom.data import tracked
    from darkroom.machines import gpus
    from darkroom.rebuild import cache, params_check
    from darkroom.report import card, summary, watch

    started = time.monotonic()
    git.refuse_elsewhere()
    if params_check.is_changed() and (code := _anew("check-params")):
        raise typer.Exit(code)
    tracked.provide_raw()
    if said := gpus.advice(params.load("run", params.Run)):
        print(said)
    cache.refill()
    known = tracked.content()
    with watch.announced():
        code = dvc.call("repro", *(["--force", "--no-run-cache"] if force else []))
    if code:
        raise typer.Exit(code)
    card.write()
    print(summary.as_text(time.monotonic() - started))
    if said := tracked.returned(known):
        print(said)
    _anew("page")  # in which torch is set up before NumPy is imported


@app.command()
def check_params() -> None:
    """Check all of params.yaml, without running any stage."""
    from darkroom.rebuild import params_check

    params_check.check()


@app.command()
def taste() -> None:
    """Run all stages within a minute, on a slice of the demo in a temporary copy, to see what they give."""
    from darkroom.rebuild import taste

    page = Path("report/taste.html").absolute()
    started = time.monotonic()
    with taste.project() as root:
        print(taste.MARK, flush=True)
        if code := dvc.call("repro", cwd=root):
            raise typer.Exit(code)
        for words in (["summary"], ["page", "--output", str(page), "--note", taste.MARK]):
            if code := _anew(*words, cwd=root):
                raise typer.Exit(code)
    print(f"{taste.MARK} It took {time.monotonic() - started:.0f} s.")


@app.command()
def watch() -> None:
    """Show which stage runs, how far it is, and the time that is left for all; write a page with the curves so far."""
    from darkroom.report import watch

    watch.watch()


@app.command()
def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="What `dvc repro` on the first machine prints.")],
) -> None:
    """Take part in the trainings of another machine, which has the same commit, params and images."""
    from darkroom.machines.join import join

    join(address)


@app.command()
def demo() -> None:
    """Copy the demo data (2,624 images of solar cells, CC BY-NC-SA 4.0) to data/raw."""
    from darkroom.data import demo
    from darkroom.data.layout import RAW

    demo.lay_out(RAW)


@app.command()
def summary() -> None:
    """Print the results as a table, without running any stage."""
    from darkroom.report import summary

    git.refuse_elsewhere()
    print(summary.as_text())


@app.command()
def advice() -> None:
    """Say what the training images suggest for params.yaml, with reasons. Nothing is changed."""
    from darkroom.report import advice

    print(
        "\n".join(advice.of_project())
        or "nothing to advise: classes, image sizes, flips and numbers of steps are usual"
    )


@app.command()
def card(
    name: Annotated[str | None, typer.Argument(help="A model of the project's list. Default: all.")] = None,
) -> None:
    """Write the card of each model, models/NAME.md, from the committed results."""
    from darkroom.report import card

    git.refuse_elsewhere()
    for path in card.write(name):
        print(path)


@app.command()
def page(
    rev: Annotated[
        str | None, typer.Argument(help="A Git revision or a DVC experiment. Default: the work tree.")
    ] = None,
    output: Annotated[Path, typer.Option(help="A folder, or a file whose name ends in .html.")] = Path("report"),
    note: Annotated[str, typer.Option(help="A line that stands above all.")] = "",
) -> None:
    """Write the results as one HTML page that stands alone.

    It has the verdict, the data, the curves, the mistakes with their images, a map of the features, and the provenance.
    """
    from darkroom.system import determinism

    determinism.prepare(settings.RUN)  # for the heat maps, before anything imports NumPy
    from darkroom.report import page

    print(f"The results as a page: {page.write(rev, output, note)}")


@app.command()
def verify(
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a param, for example train_scratch.epochs=1. May be repeated."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write what was found to this file, for `darkroom pr-report --rebuilt`.")
    ] = None,
) -> None:
    """Rebuild HEAD in a fresh clone, without any cache, and compare each output with dvc.lock, byte for byte.

    With --set, HEAD is built twice and the two builds are compared, because dvc.lock has no results for changed params.
    """
    from darkroom.rebuild import verify

    raise typer.Exit(verify.verify(change or [], report))


@app.command()
def merge(
    branch: Annotated[str | None, typer.Argument(help="Default: go on with the merge that is under way.")] = None,
) -> None:
    """Merge a branch that was trained, too: run the stages on what was merged, so that the results are those of the merge.

    Conflicts in params.yaml, code and data/raw.dvc are yours to mend. `git commit` ends the merge.
    """
    from darkroom.rebuild import merge

    if not (results := merge.begin(branch)):
        print(
            "nothing is left to merge: one side has all of the other; `dvc checkout` gets the files that belong to HEAD"
        )
        return
    if code := dvc.call("repro") or _anew("card"):  # by the merged code, which may differ from this one
        raise typer.Exit(code)
    merge.finish(results)
    print("The results are those of the merge: `git commit --no-edit` ends it, `dvc push` shares the models.")


@app.command()
def deps() -> None:
    """Update the dependencies of each stage in dvc.yaml, and the colours in DVC's plot templates."""
    from darkroom.rebuild import dependencies, templates

    git.refuse_elsewhere()
    for name in [*dependencies.write(), *templates.write()]:
        print(f"{name} changed")


@app.command("data-diff")
def data_diff(
    old: Annotated[str, typer.Argument(help="The older Git revision.")] = "HEAD",
    new: Annotated[str | None, typer.Argument(help="The newer Git revision. Default: the work tree.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also write thumbnails of the changed images to this PNG file.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="List all files, and not only the first 20 of each kind.")
    ] = False,
) -> None:
    """List the images that were added, removed, relabelled, moved, renamed or left out between two revisions.

    The work tree is what data/raw holds now, even if `dvc repro` has not run since it was changed.
    """
    from darkroom.comparison import data_diff
    from darkroom.data import manifest

    git.refuse_elsewhere()
    for revision in filter(None, (old, new)):
        data_diff.refuse_unsplit(revision)
    before, note = manifest.read(old), ""
    if new:
        after = manifest.read(new)
    else:
        from darkroom.comparison import work_tree  # imports the stage split, and matplotlib with it

        after, is_stale = work_tree.read(before)
        note = work_tree.STALE if is_stale else ""
    changes = data_diff.diff(before, after)
    listed = None if every else data_diff.LISTED
    print(data_diff.markdown(changes, old, new or "the work tree", listed, note), end="")
    if picture and changes:
        from darkroom.comparison import thumbnails

        print(f"\n{markdown.code(str(picture))}: {thumbnails.of_changes(changes, old, new, picture)}.")


@app.command()
def pin() -> None:
    """Write the side of each image of a small class to data/sides.csv, so that none of them ever leaves it."""
    from darkroom.data import manifest
    from darkroom.data import pin as pinning
    from darkroom.data.layout import PINNED
    from darkroom.review import places

    git.refuse_elsewhere()
    mode = places.mode()
    if mode != "hash":
        raise UserError(f"split.mode in params.yaml is {mode}, which reads no pins: set it to hash, or do without")
    added = pinning.add(pinning.of_small_classes(manifest.read(None)))
    print(f"{added} more in {PINNED}: commit it after `dvc repro`, which moves no image for it")


@app.command()
def compare(
    base: Annotated[
        str | None,
        typer.Argument(help=f"A Git revision or a DVC experiment. {DEFAULT_BASE}"),
    ] = None,
    head: Annotated[str | None, typer.Argument(help="Another revision or experiment. Default: the work tree.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of Markdown.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write an HTML page with the images that changed between right and wrong."),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="worse[:MODEL]", help=FAIL_ON),
    ] = None,
    max_drop: Annotated[list[str] | None, typer.Option(metavar="[MODEL.]METRIC=DROP", help=MAX_DROP)] = None,
) -> None:
    """Compare the results of two revisions: what differs, and whether it is more than chance.

    Everything is read from Git. The command needs no images and no models, and takes a few seconds.
    """
    from darkroom.comparison import compare, gate, page, text
    from darkroom.data import tracked
    from darkroom.results import revision

    drops = gate.drops(max_drop or [])
    sides = revision.load(base or revision.default_base()), revision.load(head)
    if fail_on or drops:
        gate.refuse_same(*sides)
    comparison = compare.compare(*sides)
    reasons = gate.failures(comparison, fail_on, drops)
    if as_json:
        print(text.as_json(comparison), end="")
    else:
        markdown.show(text.as_markdown(comparison))
    if html:
        page.write(comparison, *sides, html)
    for reason in reasons:
        print(f"darkroom compare: {reason}", file=sys.stderr)
    if head is None and git.read("status", "--porcelain", "--", "dvc.lock"):
        print(WAY_BACK, file=sys.stderr)
    if head is None and (said := tracked.not_added()):
        print(said, file=sys.stderr)
    raise typer.Exit(bool(reasons))


@app.command("pr-report")
def pr_report(
    base: Annotated[str | None, typer.Argument(help=f"A Git revision. {DEFAULT_BASE}")] = None,
    pictures: Annotated[
        str, typer.Option(help="The start of the URLs of the branch's files, to which `plots/NAME.png` is added.")
    ] = "../",
    rebuilt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `darkroom verify --report FILE` wrote. Exit with 1 if the rebuild gave other bytes. Without it no result "
            "is called rebuilt.",
        ),
    ] = None,
    fail_on: Annotated[str | None, typer.Option(metavar="worse[:MODEL]", help=FAIL_ON)] = None,
    max_drop: Annotated[list[str] | None, typer.Option(metavar="[MODEL.]METRIC=DROP", help=MAX_DROP)] = None,
) -> None:
    """Compare the work tree with BASE and write report/report.md for the reviewers of a pull request."""
    from darkroom.comparison import gate, pull_request

    path, reasons = pull_request.write(base or None, pictures, fail_on, gate.drops(max_drop or []), rebuilt)
    print(path)
    for reason in reasons:
        print(f"darkroom pr-report: {reason}", file=sys.stderr)
    raise typer.Exit(bool(reasons))


@app.command()
def experiments() -> None:
    """Print the experiments of the last commit: what each changed, and the test accuracy of each model."""
    from darkroom.experiments import table

    git.refuse_elsewhere()
    markdown.show(table.as_markdown())


@app.command()
def seeds(
    count: Annotated[int, typer.Option(min=2, help="Number of seeds. The first one is run.seed.")] = 5,
    jobs: Annotated[int | None, typer.Option(min=1, help=JOBS, show_default=False)] = None,
) -> None:
    """Run HEAD under several seeds, and print mean, spread and detectable difference of each metric.

    Each run is kept as a DVC experiment. Experiments that exist already are not run again.
    """
    from darkroom.experiments import seeds

    markdown.show(seeds.run_seeds(count, jobs))


@app.command()
def predict(
    paths: Annotated[list[str] | None, typer.Argument(help="Files, folders, or - for paths on standard input.")] = None,
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    rev: Annotated[str | None, typer.Option(help=REV)] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")] = None,
    form: Annotated[
        settings.Format | None,
        typer.Option("--format", help="Default: a table on a terminal, else CSV.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to name, the most probable ones.")] = 1,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Give the probability of each class.")] = False,
    error_rate: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="How often the set of classes may lack the right one.")
    ] = 0.05,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write a picture of where the reason lies for each image to FOLDER."),
    ] = None,
) -> None:
    """Classify images.

    Each file gets a class, its probability, and an answer: sure (at the error rate it can have this class alone), unsure, or
    unknown (unlike the training images). The exit code is 1 if a file cannot be read.
    """
    if not paths:
        raise UserError("say what to classify: files, folders, or - for paths on standard input")
    with _model_file(model, rev) as file:
        from darkroom.inference import session

        choices = session.Choices(output, form, top, probabilities, error_rate, explain)
        raise typer.Exit(session.run(file, paths, choices))


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="A name from the project's list, a checkpoint, or an exported model.")
    ] = None,
    rev: Annotated[str | None, typer.Option(help="The Git revision whose model answers, such as v1.2.")] = None,
    host: Annotated[str, typer.Option(help="Where to listen. Default: this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    error_rate: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="How often the set of classes may lack the right one.")
    ] = 0.05,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of a request.")] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Of an image.")] = 50,
    max_files: Annotated[int, typer.Option(min=1, help="In a request.")] = 32,
    max_requests: Annotated[int, typer.Option(min=1, help="Uploads at a time.")] = 8,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name of this machine. May be repeated.")
    ] = None,
) -> None:
    """Serve a model: a page to drop images on, and POST /predict for programs."""
    with _model_file(model, rev) as file:
        from darkroom.serving import server

        limits = (max_megabytes, max_megapixels, max_files, max_requests)
        raise typer.Exit(server.run(file, server.Choices(host, port, error_rate, *limits, allow_host or [])))


@app.command()
def review(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="conflicts|look-alikes|suspects", help="Review these alone. May be repeated."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Move and remove the files as it was decided, after asking.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back the last --apply.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing, for scripts.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page. 0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Decide, on a page, about images that have two labels, look alike on two sides, or look wrongly labelled.

    Decisions go to data/review.csv. No image moves before --apply.
    """
    if apply and undo:
        raise UserError("--apply and --undo exclude each other: say one")
    if apply or undo:
        from darkroom.review import apply as applying

        (applying.apply if apply else applying.undo)(yes)
        return
    from darkroom.review import queue, server

    if unknown := set(only or ()) - set(queue.Kind):
        raise UserError(f"--only {min(unknown)}: say {', '.join(queue.Kind)}")
    server.run([kind for kind in queue.Kind if not only or kind in only], port, browser)


@app.command()
def export(
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    rev: Annotated[str | None, typer.Option(help=REV)] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write. Default: NAME.onnx in this folder.")] = None,
    check: Annotated[
        str, typer.Option(metavar="FOLDER", help="The images on which the file must agree with the checkpoint.")
    ] = "data/split/test",
) -> None:
    """Write a model as an ONNX file, which needs no torch: normalisation, flips, temperature and softmax are in it.

    A file that does not agree with the checkpoint on every image of the check is not written.
    """
    with _model_file(model, rev) as file:
        if file.suffix == locate.EXPORTED:
            raise UserError(f"--model {file} is exported already: name a checkpoint")
        from darkroom.inference import export

        export.export(file, check, output or Path(f"{file.stem}{locate.EXPORTED}"))


@app.command()
def score(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A folder with a folder per class, or a CSV with path,label. Default: the project's test images."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help=MODEL)] = None,
    rev: Annotated[str | None, typer.Option(help=REV)] = None,
    sensitivity: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.9999, help="Choose a threshold on val that finds this share of --of."),
    ] = None,
    of: Annotated[str | None, typer.Option(metavar="CLASS", help="The class that --sensitivity is about.")] = None,
    costs: Annotated[
        Path | None, typer.Option(help="Decide by this table of costs, actual class x decision (CSV or YAML).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of Markdown.")] = False,
) -> None:
    """Score a model on labelled images of another site, camera or month, beside its figures on test.

    The exit code is 1 if a file cannot be read.
    """
    with _model_file(model, rev) as file:
        from darkroom.scoring import session

        choices = session.Choices(rev, as_json, sensitivity, of, costs)
        raise typer.Exit(session.run(file, source, choices))


@app.command()
def labels(
    top: Annotated[int, typer.Option(min=1, help="Number of images to name.")] = 20,
) -> None:
    """Rank the images of train, val and test by how wrong their labels look, and write report/suspects.csv.

    It judges labels and chooses no model: features of the pretrained backbone, out-of-sample probabilities, confident learning.
    """
    git.refuse_elsewhere()
    from darkroom.system import determinism

    determinism.prepare(settings.RUN)
    from darkroom.labels import session

    session.run(top)


@app.command()
def crossval(
    folds: Annotated[int, typer.Option(min=2, help="Number of folds of train and val.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Number of divisions into folds, each with another seed.")] = 1,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="train_NAME", help="A training. May be repeated. Default: those of all models."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a param of HEAD for the folds. May be repeated."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="REV", help="Cross-validate this revision, too, and compare HEAD with it.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help=JOBS, show_default=False)] = None,
) -> None:
    """Judge HEAD's params by cross-validation on train and val. Test is not looked at.

    Each fold is a DVC experiment. Experiments that exist already are not run again.
    """
    from darkroom.experiments import crossval

    plan = crossval.Plan(folds, repeats, stage or [], change or [], against)
    markdown.show(crossval.crossval(plan, jobs))


@app.command()
def tune(
    space: Annotated[Path, typer.Argument(help="The YAML file with the search space.")] = Path("tune.yaml"),
    trials: Annotated[int, typer.Option(min=1, help="Number of trials to add.")] = 20,
    name: Annotated[str, typer.Option(help="Name of the study. If it exists, the search continues it.")] = "search",
    storage: Annotated[
        str | None,
        typer.Option(help="URL of a database, for workers on several machines. Default: a file in .darkroom/tune/."),
    ] = None,
) -> None:
    """Search for better params with Optuna. Each trial is a DVC experiment on HEAD; only the val loss decides."""
    from darkroom.experiments import tune

    markdown.show(tune.search(space, name, trials, storage))


def _anew(*words: str, cwd: Path | None = None) -> int:
    """Run `darkroom WORDS` in a process of its own, and return its exit code."""
    sys.stdout.flush()
    return subprocess.call([sys.executable, "-P", "-c", "from darkroom import cli; cli.main()", *words], cwd=cwd)


@contextmanager
def _model_file(model: str | None, revision: str | None) -> Iterator[Path]:
    """Yield the file of the model that the options name. If it needs torch, torch is set up, before anything imports NumPy."""
    with locate.model_file(model, revision) as file:
        if file.suffix != locate.EXPORTED:
            if find_spec("torch") is None:
                raise UserError(
                    f"{file} needs torch, which is not installed: `pip install -r requirements.txt`, or export the model where "
                    "torch is (`darkroom export`)"
                )
            from darkroom.system import determinism

            determinism.prepare(settings.RUN)
        yield file


def _stage_command(name: str) -> Callable[[], None]:
    def command() -> None:
        # As dvc.yaml does: other modules that are loaded would look like other code to the further workers of a training.
        os.execv(sys.executable, [sys.executable, str(Path(__file__).parent), name])

    command.__doc__ = f"Run the stage {name} directly, without DVC."
    return command


for _name in runner.names():
    app.command(_name, rich_help_panel="Stages")(_stage_command(_name))
