"""`darkroom`: what people type. Every command is a few lines that call another room."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from darkroom import runner
from darkroom.system import dvc, markdown
from darkroom.system.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A folder of images in; two trained classifiers and an honest comparison of them out.",
)


def main() -> None:
    """The entry point: a user's mistake ends in its sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"darkroom: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run() -> None:
    """All of it: data/raw where it is missing, `dvc repro`, and the results as a table."""
    from darkroom.data import tracked
    from darkroom.report import summary
    from darkroom.system import git

    started = time.monotonic()
    git.refuse_elsewhere()
    tracked.provide_raw()
    if code := dvc.call("repro"):
        raise typer.Exit(code)
    print(summary.table(time.monotonic() - started))


@app.command()
def demo() -> None:
    """Lay out the demo data (2,624 solar cells, CC BY-NC-SA 4.0) as data/raw."""
    from darkroom.data import demo
    from darkroom.data.layout import RAW

    demo.lay_out(RAW)


@app.command()
def summary() -> None:
    """The results as a table, without running anything."""
    from darkroom.report import summary

    print(summary.table())


@app.command()
def verify(
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a param, such as train_scratch.epochs=1."),
    ] = None,
) -> None:
    """Rebuild HEAD in a fresh clone, without any cache, and compare every out with dvc.lock, byte for byte.

    With --set there is nothing in dvc.lock to compare with: HEAD is then built twice, and the builds are compared.
    """
    from darkroom.rebuild import verify

    raise typer.Exit(verify.verify(change or []))


@app.command()
def deps() -> None:
    """Write into dvc.yaml what each stage depends on, from its code and from the list of models."""
    from darkroom.rebuild import dependencies

    changed = dependencies.write()
    print(f"dvc.yaml: {', '.join(changed)} changed" if changed else "dvc.yaml is up to date")


@app.command("data-diff")
def data_diff(
    old: Annotated[str, typer.Argument(help="A Git revision.")] = "HEAD",
    new: Annotated[str | None, typer.Argument(help="Another; the work tree when left out.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also write thumbnails of the changed images to this PNG.")
    ] = None,
) -> None:
    """Which images were added, removed, relabelled, moved or renamed between two revisions, as Markdown."""
    from darkroom.comparison import data_diff

    changes = data_diff.diff(data_diff.read_manifest(old), data_diff.read_manifest(new))
    print(data_diff.markdown(changes, old, new or "the work tree"), end="")
    if picture and changes:
        from darkroom.comparison import thumbnails

        thumbnails.of_changes(changes, old, new, picture)


@app.command()
def compare(
    base: Annotated[
        str | None, typer.Argument(help="A revision or an experiment; where the branch left main when left out.")
    ] = None,
    head: Annotated[str | None, typer.Argument(help="Another; the work tree when left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of Markdown.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with the images whose verdict changed.")] = None,
    fail_on: Annotated[
        str | None, typer.Option(metavar="worse", help="Exit with 1 on evidence, at 5 %, of a worse accuracy.")
    ] = None,
    max_drop: Annotated[
        list[str] | None, typer.Option(metavar="FIGURE=DROP", help="Exit with 1 when a figure falls further.")
    ] = None,
) -> None:
    """What differs between two revisions, and whether it means anything: from Git alone, in seconds."""
    from darkroom.comparison import compare, report, revision

    if fail_on not in (None, "worse"):
        raise UserError(f"--fail-on {fail_on}: the one thing to fail on is 'worse'")
    drops = report.drops(max_drop or [])
    sides = revision.load(base or revision.default_base()), revision.load(head)
    found = compare.compare(*sides)
    reasons = compare.failures(found, fail_on is not None, drops)
    if as_json:
        print(report.as_json(found), end="")
    else:
        markdown.show(report.markdown(found))
    if html:
        report.write_html(found, sides[1], html)
    for reason in reasons:
        print(f"darkroom compare: {reason}", file=sys.stderr)
    raise typer.Exit(bool(reasons))


@app.command("pr-report")
def pr_report(
    base: Annotated[str | None, typer.Argument(help="A revision; where the branch left main when left out.")] = None,
    pictures: Annotated[
        str, typer.Option(help="The beginning of a URL under which the branch's files are seen.")
    ] = "../",
) -> None:
    """Write report/report.md for the reviewers of a pull request: the work tree against BASE."""
    from darkroom.comparison import pull_request

    print(pull_request.write(base or None, pictures))


@app.command()
def seeds(count: Annotated[int, typer.Option(min=2, help="How many seeds, from run.seed on.")] = 5) -> None:
    """Run the params as they are under several seeds, as experiments: mean, spread and detectable difference."""
    from darkroom.experiments import seeds

    markdown.show(seeds.run(count))


@app.command()
def tune(
    space: Annotated[Path, typer.Argument(help="The search space, YAML.")] = Path("tune.yaml"),
    trials: Annotated[int, typer.Option(min=1, help="How many to add.")] = 20,
    name: Annotated[str, typer.Option(help="Of the study; the same one goes on.")] = "search",
    storage: Annotated[
        str | None,
        typer.Option(help="A database's URL, for workers on several machines; a file of this project without."),
    ] = None,
) -> None:
    """Search for better params by Optuna: each trial a DVC experiment, judged by val alone."""
    from darkroom.experiments import tune

    markdown.show(tune.run(space, name, trials, storage))


def _stage_command(name: str) -> Callable[[], None]:
    def command() -> None:
        raise typer.Exit(runner.run_stage(name))

    command.__doc__ = f"Run the stage {name} alone, as `dvc repro` would."
    return command


for _name in runner.names():
    app.command(_name, rich_help_panel="Stages")(_stage_command(_name))
