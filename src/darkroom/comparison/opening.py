"""The opening of a comparison: one line that says what changed and whether that is better, and a few lines that explain it."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from darkroom.comparison import data_diff
from darkroom.comparison.compare import Comparison
from darkroom.comparison.data_diff import KINDS
from darkroom.comparison.verdicts import GONE, NEW, ClassChange, Headline, NewModel
from darkroom.evaluation import metrics
from darkroom.evaluation.titles import METRICS
from darkroom.system.markdown import cell

FEW = 2  # params or packages that are named with both values; more are counted
NAMED = 3  # classes, files or stages that are named; more are counted
LONG = 40  # characters of a param's value
WORDS = {"moved": "moved to another side"}
ORDER = ("worse", "better", NEW, "no evidence", None, GONE)


class Around(NamedTuple):
    """What the report of a pull request knows beside the comparison, in Markdown.

    Attributes:
        gate: "open", "closed" or "not set".
        about_gate: Sentences about it, each with its beginning in bold.
        rebuilt: What was rebuilt, in a few words.
        about_rebuilt: The same in a sentence.
    """

    gate: str
    about_gate: Sequence[str]
    rebuilt: str
    about_rebuilt: str


def line(comparison: Comparison, around: Around | None = None) -> str:
    """The first line: what changed, the verdict of each model, the gate, and what was rebuilt."""
    found = list(changes(comparison))
    more = [f"{len(found) - NAMED} more changes"] if len(found) > NAMED else []
    what = "; ".join([*found[:NAMED], *more]) or "No input changed"
    verdicts = "; ".join(_short(comparison, model) for model in _by_verdict(comparison))
    if comparison.same:
        verdicts = "; ".join(filter(None, [verdicts, f"{_titles(comparison, comparison.same)}: the same predictions"]))
    end = f" Gate: {around.gate}. Rebuilt: {around.rebuilt}." if around else ""
    return f"**{what}: {verdicts}.{end}**"


def explained(comparison: Comparison, around: Around | None = None) -> str:
    """The lines below the first: a list, with an item for each question of a reviewer."""
    items = [f"**Changed:** {'; '.join(changes(comparison, full=True)) or 'no input of any stage'}."]
    items += [f"**{title}** {text}" for title, text in _verdicts(comparison)]
    items.append(f"**Classes:** {' '.join(_classes(comparison))}")
    if around:
        items += [*around.about_gate, f"**Rebuilt:** {around.about_rebuilt}"]
    return "\n".join(f"- {item}" for item in items)


def changes(comparison: Comparison, full: bool = False) -> Iterator[str]:
    """What changed, as phrases of Markdown. `full`: with the classes of images, the files of code and their stages."""
    for verdict, words in ((NEW, "New model"), (GONE, "Removed model")):
        for model in _models(comparison, verdict):
            yield f"{words} {comparison.titles[model]}"
    if images := list(_images(comparison, full)):
        yield ", ".join(images)
    yield from _params(comparison)
    yield from _pins(comparison)
    yield from _code(comparison, full)
    if files := comparison.changed.files:
        yield _listed(files)
    if commands := comparison.changed.commands:
        yield f"command of {_listed(commands)}"


def _images(comparison: Comparison, full: bool) -> Iterator[str]:
    """How many images were added, removed, ..., with their classes if `full`."""
    counts = Counter(one.kind for one in comparison.data)
    for number, kind in enumerate(kind for kind in KINDS if counts[kind]):
        count = counts[kind]
        noun = "" if number else "image " if count == 1 else "images "
        classes = Counter(_label(one) for one in comparison.data if one.kind == kind != "left out")
        limit = NAMED if len(classes) > NAMED + 1 else len(classes)  # "others" is no shorter than the name of one more
        most = classes.most_common(limit)
        named = ", ".join(f"{label} {of_class:,}" for label, of_class in most)
        others = classes.total() - sum(of_class for _, of_class in most)
        more = f", others {others:,}" if others else ""
        yield f"{count:,} {noun}{WORDS.get(kind, kind)}" + (f" ({named}{more})" if full and named else "")


def _label(change: data_diff.Change) -> str:
    """The class of a changed image, or the two classes of one that was relabelled."""
    if change.kind == "relabelled" and change.old and change.new:
        return f"{cell(change.old.label)} to {cell(change.new.label)}"
    return cell(data_diff.current(change).label)


def _params(comparison: Comparison) -> Iterator[str]:
    """The params, without the list of models and the sections of models that are new or gone."""
    models = [*_models(comparison, NEW), *_models(comparison, GONE)]
    own = tuple([f"train_{model}." for model in models] + (["models."] if models else []))
    params = {key: values for key, values in comparison.params.items() if not key.startswith(own)}
    if len(params) <= FEW:
        yield from (f"{cell(key)} {_value(old)} → {_value(new)}" for key, (old, new) in params.items())
    else:
        sections = Counter(key.partition(".")[0] for key in params)
        yield f"{len(params)} params ({', '.join(f'{cell(name)} {count}' for name, count in sections.most_common(NAMED))})"


def _value(value: str | None) -> str:
    """The JSON of a param: a number as it is, anything else as code."""
    if value is None:
        return "(not there)"
    if isinstance(json.loads(value), int | float):
        return value
    return cell(value if len(value) <= LONG else f"{value[:LONG]}...")


def _pins(comparison: Comparison) -> Iterator[str]:
    pins = comparison.changed.pins
    if len(pins) <= FEW:
        yield from (f"{cell(name)} {old or '(none)'} → {new or '(none)'}" for name, (old, new) in pins.items())
    else:
        yield f"the versions of {len(pins)} packages"


def _code(comparison: Comparison, full: bool) -> Iterator[str]:
    code = comparison.changed.code
    if code:
        stages = list(dict.fromkeys(stage for of_file in code.values() for stage in of_file))
        yield f"code of {_listed(stages)}" + (f" ({_listed([*code])})" if full else "")


def _listed(names: Sequence[str]) -> str:
    """The first names as code, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(cell(name) for name in names[:NAMED]) + more


def _titles(comparison: Comparison, models: Sequence[str]) -> str:
    return ", ".join(comparison.titles[model] for model in models)


def _models(comparison: Comparison, verdict: str) -> list[str]:
    """The models of which all is NEW or GONE."""
    return list(dict.fromkeys(one.model for one in comparison.headlines if one.verdict == verdict))


def _by_verdict(comparison: Comparison) -> list[str]:
    """The models whose predictions differ, and those of one side: the worse ones first."""
    lines = {one.model: _accuracy(comparison, one.model) for one in comparison.headlines}
    models = [model for model in lines if model not in comparison.same]
    return sorted(models, key=lambda model: ORDER.index(lines[model].verdict))


def _lines(comparison: Comparison, model: str) -> list[Headline]:
    """The metrics of a model: over seeds where these have a verdict, otherwise of the trained model."""
    over_seeds = [one for one in comparison.over_seeds.headlines if one.model == model]
    if any(one.metric == "accuracy" and one.p is not None for one in over_seeds):
        return over_seeds
    return [one for one in comparison.headlines if one.model == model]


def _accuracy(comparison: Comparison, model: str) -> Headline:
    return next(one for one in _lines(comparison, model) if one.metric == "accuracy")


def _worst(comparison: Comparison, model: str) -> ClassChange | None:
    """The class in which a model fell most, of those that changed by more than chance."""
    fallen = [one for one in _class_changes(comparison) if one.model == model and one.head < one.base]
    return max(fallen, key=lambda one: one.base - one.head, default=None)


def _class_changes(comparison: Comparison) -> Sequence[ClassChange]:
    return comparison.classes if comparison.over_seeds.missing else comparison.over_seeds.classes


def _p(p: float | None) -> str:
    """A p value as in `p = 0.02`."""
    if p is None or math.isnan(p):
        return "no p"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def _verdict_on(comparison: Comparison, new: NewModel) -> str:
    """How a new model compares with the best of the others, as what can be said of it."""
    if new.beside is None or new.other is None or new.p is None:
        return f"accuracy {new.accuracy:.3f}, and no model to compare it with"
    values = f"accuracy {new.accuracy:.3f} against {new.other:.3f}, {_p(new.p)}"
    if new.p >= metrics.LEVEL:
        return f"no evidence that it differs from {comparison.titles[new.beside]} ({values})"
    return f"{'better' if new.accuracy > new.other else 'worse'} than {comparison.titles[new.beside]} ({values})"


def _short(comparison: Comparison, model: str) -> str:
    """The verdict of one model for the first line."""
    title, accuracy = comparison.titles[model], _accuracy(comparison, model)
    new = next((one for one in comparison.new_models if one.model == model), None)
    if new:
        return _verdict_on(comparison, new)
    if accuracy.verdict == GONE:
        return f"{title} had accuracy {accuracy.difference.base:.3f}"
    values = f"accuracy {accuracy.difference.base:.3f} → {accuracy.difference.head:.3f}, {_p(accuracy.p)}"
    worst = _worst(comparison, model)
    where = f", most in {cell(worst.label)}" if worst else ""
    match accuracy.verdict:
        case "better" | "worse":
            return f"{title} is {accuracy.verdict} ({values}){where if accuracy.verdict == 'worse' else ''}"
        case _:
            falls = f", but worse in {cell(worst.label)}" if worst else ""
            return f"no evidence that {title} differs ({values}){falls}"


def _verdicts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """An item for each model whose predictions differ, then one for all others."""
    for model in _by_verdict(comparison):
        title, accuracy = comparison.titles[model], _accuracy(comparison, model)
        others = [one for one in _lines(comparison, model) if one.metric != "accuracy"]
        text = {
            "worse": "**worse**, by more than chance:",
            "better": "**better**, by more than chance:",
            NEW: "new:",
            GONE: "removed.",
        }.get(str(accuracy.verdict), "no evidence of a difference; what differs may be chance:")
        yield f"{title}:", " ".join(filter(None, [text, _figures(comparison, accuracy), *_also(others)]))
    if comparison.same:
        yield f"{_titles(comparison, comparison.same)}:", "the same predictions as before."


def _also(others: Sequence[Headline]) -> Iterator[str]:
    """The metrics beside the accuracy that have a verdict."""
    for verdict in ("worse", "better"):
        if found := "; ".join(METRICS[one.metric] for one in others if one.verdict == verdict):
            yield f"Also {verdict}, each tested on its own: {found}."


def _figures(comparison: Comparison, accuracy: Headline) -> str:
    """The accuracy on both sides, and what was tested."""
    before, after = accuracy.difference[:2]
    new = next((one for one in comparison.new_models if one.model == accuracy.model), None)
    if new:
        return f"{_verdict_on(comparison, new)}; both on the same {comparison.images['shared']:,} test images."
    if accuracy.verdict == GONE:
        return f"Its accuracy was {before:.3f}."
    seeds = comparison.over_seeds
    how = (
        f"means over {seeds.base} and {seeds.head} seeds, by Welch's test"
        if any(one is accuracy for one in seeds.headlines)
        else f"one training each, the same {comparison.images['shared']:,} test images"
    )
    return f"accuracy {before:.3f} → {after:.3f} ({_p(accuracy.p)}; {how})."


def _classes(comparison: Comparison) -> Iterator[str]:
    """Which class suffers most, for each model."""
    changed = _class_changes(comparison)
    for model in dict.fromkeys(one.model for one in changed):
        for verdict, sign in (("worse", -1), ("better", 1)):
            found = [one for one in changed if one.model == model and sign * (one.head - one.base) > 0]
            if found:
                most = _of(max(found, key=lambda one: abs(one.head - one.base)))
                where = f"{len(found)} classes, most in {most}" if len(found) > 1 else most
                yield f"{comparison.titles[model]} is {verdict} by more than chance in {where}."
    if not changed and any(one.verdict not in (NEW, GONE) for one in comparison.headlines):
        yield "none changed by more than chance."
    for new in comparison.new_models:
        yield f"{comparison.titles[new.model]} is weakest in {cell(new.weakest)} ({new.recall:.3f} of its images are right)."


def _of(change: ClassChange) -> str:
    return (
        f"{cell(change.label)} ({change.base:.3f} → {change.head:.3f} of its {change.images:,} images are right, "
        f"{_p(change.p)})"
    )
