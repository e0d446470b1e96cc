"""A search of hyper-parameters as a picture: what each trial came to, and the best so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from ustoolkit.report import figures

_MARKERS = {"finished": ("o", "finished"), "pruned": ("x", "pruned"), "unfinished": ("|", "unfinished")}


@dataclass(frozen=True)
class TrialPoint:
    """A trial in the picture.

    Attributes:
        minute: float, of the search when it ended, at least 0.
        score: float in [0, 1], its best on the validation part.
        state: whether it came to its end.
    """

    minute: float
    score: float
    state: Literal["finished", "pruned", "unfinished"]


def search_figure(trials: Sequence[TrialPoint], score_name: str) -> Figure:
    """Score of each trial against the minute that it ended in, and as a line the best of those finished so far.

    Args:
        trials: in any order; none give empty axes.
        score_name: at the axis, such as 'validation Dice'.
    Returns:
        a figure for `figure_files.write_figure`.
    """
    figure, axes = figures.new_figure(figures.WIDE, "minutes of search", score_name)
    finished = sorted((each for each in trials if each.state == "finished"), key=lambda each: each.minute)
    if finished:
        best = np.maximum.accumulate([each.score for each in finished])
        end = max(each.minute for each in trials)
        minutes = [*(each.minute for each in finished), end]
        axes.step(minutes, [*best, best[-1]], where="post", color=figures.series_colour(1), linewidth=1.6, label="best")
    for group, (state, (marker, name)) in enumerate(_MARKERS.items()):
        shown = [each for each in trials if each.state == state]
        if shown:
            axes.plot(
                [each.minute for each in shown],
                [each.score for each in shown],
                marker,
                color=figures.series_colour(0 if group == 0 else 2),
                markersize=5,
                markeredgewidth=1.4 if group else 0,
                label=name,
                clip_on=False,
            )
    if trials:
        axes.set_xlim(left=0)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8.5)
    return figure
