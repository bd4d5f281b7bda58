"""Whether a trial of a search is better than the params as they are by more than chance."""

import numpy as np

from darkroom.data import groups
from darkroom.evaluation import means, metrics
from darkroom.evaluation.means import Mean
from darkroom.experiments import answers
from darkroom.experiments.answers import Asked


def measure(base: str, best: str, name: str, trials: int) -> Mean:
    """By how much the val loss of one experiment is higher than that of another, with an interval, image by image.

    It is a paired t interval, of groups where there are some. The other experiment is the best one of several, and the more there
    are, the luckier the best one is on these val images. By Bonferroni's method the level of 5 % is therefore divided by their
    number.

    Args:
        base, best: The commits of the experiments. They have the same val images.
        name: Of the model.
        trials: How many the best one was chosen from.

    Raises:
        UserError: DVC's cache lacks a model or the images.
    """
    before, after = answers.of([Asked(commit, name, "val") for commit in (base, best)])
    gains = np.array(before.losses) - np.array(after.losses)
    return means.over_images(gains, groups.units([row.group for row in before.rows]), 1 - metrics.LEVEL / trials)
