"""Operating points as Markdown, and how to apply them to what `darkroom predict` gives."""

from collections.abc import Mapping
from typing import Any

from darkroom.evaluation.titles import figure
from darkroom.system.markdown import cell, code


def of_sensitivity(point: Mapping[str, Any]) -> str:
    """What `operating.at_threshold` found."""
    label, expected = code(point["label"]), point["expected"]
    lines = [
        f"### A sensitivity of {point['asked']:g} for {label}",
        "",
        f"Call an image {label} if its probability is at least **{point['limit']:.6f}**. {_apply(point['label'])} "
        f"{point['val_images']} val images of the class chose it. On new images of the same kind the sensitivity is at least "
        f"{point['asked']:g} on average; with so many val images it lies between {expected['low']:.3f} and "
        f"{expected['high']:.3f} in 95 % of cases.",
        "",
        "| figure | by this threshold | by the most probable class |",
        "|---|---:|---:|",
        f"| images called {cell(point['label'])} | {point['by_threshold']['called']:,} | {point['by_argmax']['called']:,} |",
    ]
    lines += [
        f"| {name} | {_with_n(point['by_threshold'][name])} | {_with_n(point['by_argmax'][name])} |"
        for name in ("sensitivity", "specificity", "precision")
    ]
    return "\n".join([*lines, ""])


def of_costs(point: Mapping[str, Any]) -> str:
    """What `operating.for_costs` found."""
    lines = ["### Decisions by cost", ""]
    if point["limit"] is None:
        lines.append(
            "Each image gets the decision of the lowest expected cost: the sum over all classes of `probability_of_CLASS` times "
            "the cost of the decision where CLASS is right (Elkan 2001). `darkroom predict --probabilities` gives these columns."
        )
    else:
        lines.append(
            f"Decide for {code(point['class'])} if its probability is at least **{point['limit']:.6f}**, the threshold of "
            f"the lowest cost on val. {_apply(point['class'])}"
        )
    lines += ["", "| | by cost | by the most probable class |", "|---|---:|---:|"]
    lines += [
        f"| images decided as {cell(label)} | {of['by_cost']:,} | {of['by_argmax']:,} |"
        for label, of in list(point["decisions"].items())[:20]
    ]
    lines.append(f"| mean cost (95 %) | {figure(point['by_cost'])} | {figure(point['by_argmax'])} |")
    change = f"The difference per image: {figure(point['difference'])}, **{point['verdict']}**."
    return "\n".join(
        [*lines, "", f"{change} Both decide about the same images; the interval is a paired bootstrap's.", ""]
    )


def _apply(label: str) -> str:
    column = code(f"probability_of_{label}")
    return f"`darkroom predict --probabilities` gives it in the column {column}."


def _with_n(of: Mapping[str, Any] | None) -> str:
    return "no image" if of is None else f"{figure(of)}, n = {of['n']:,}"
