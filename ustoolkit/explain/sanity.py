"""Whether an explanation depends on what a network has learned: it must change when the weights are random."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tf_keras as keras
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from ustoolkit.errors import RecipeError, ShapeError
from ustoolkit.explain.network import kernel_layers, set_weights, unfold, weights_of
from ustoolkit.explain.random_weights import make_random, normalizations_behind

MOST_CORRELATED = 0.5
_EIGHTHS = tuple(number / 8 for number in range(1, 9))
_WINDOW = 7  # side of the squares that scikit-image compares, pixels


@dataclass(frozen=True)
class SanityRow:
    """Maps of a network with some layers random, beside those of the trained one.

    Attributes:
        layers: how many are random, from the output on.
        layer: name of the one nearest to the input among them.
        correlation: Spearman's of the maps' absolute values, -1 to 1, the mean over images and draws; 0 for a map that
            has become constant. Images whose map of the trained network is constant are left out; NaN if all are.
        similarity: structural similarity of these values, each map divided by its largest, the mean likewise. NaN also
            for images of less than 7 pixels a side.
        constant: how many of the maps that are compared, one an image and draw, have become constant or hold values
            that are not finite.
    """

    layers: int
    layer: str
    correlation: float
    similarity: float
    constant: int


@dataclass(frozen=True)
class SanityResult:
    """The outcome of a sanity check.

    Attributes:
        rows: one a stage; in the last all layers are random.
        passed: whether the maps do depend on the weights.
        message: the outcome in a sentence.
    """

    rows: tuple[SanityRow, ...]
    passed: bool
    message: str


def sanity_check(
    model: keras.Model,
    explain: Callable[[keras.Model], np.ndarray],
    seed: int = 0,
    fractions: Sequence[float] = _EIGHTHS,
    draws: int = 3,
) -> SanityResult:
    """Tests whether a way of explaining looks at the network, or at the image alone as an edge detector does.

    Layers with kernels lose what they have learned in a cascade from the output to the input, and the maps are compared
    with those of the trained network: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018. Kernels are drawn
    anew from He's normal distribution (ICCV 2015), which keeps values in range at any depth; biases and the
    normalisation of the layers' outputs are set back to what they are before training. A way of explaining passes if
    the rank correlation is below 0.5 once all layers are random. One random network may agree with the trained one by
    chance, above all where few filters are looked at, so that the mean of several is taken.

    Args:
        model: a functional, trained network; it is not changed.
        explain: from a network like the model, which bears the names of `inner_layers`, to maps of the same images each
            time: float (n, height, width), or (n, height, width, channels), whose absolute values are summed. A
            target should be fixed in it, by a label or a mask, lest a random network decides what is explained.
        seed: of the random weights, which depend on nothing else.
        fractions: shares of the layers that are random at each stage, over 0 to 1; all of them are always the last.
        draws: random networks of each stage, at least 1.
    Returns:
        a row for each stage and the outcome. It is not passed if no map of the trained network says anything.
    Raises:
        RecipeError: a fraction is out of range, or there are no draws.
        ShapeError: what is explained are no maps.
    """
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise RecipeError(
            f"sanity check, fractions: expected shares over 0 to 1, found {', '.join(map(str, fractions))}. "
            "Leave them out for eighths."
        )
    if draws < 1:
        raise RecipeError(f"sanity check, draws: expected at least 1, found {draws}. Some 3 are usual.")
    copy = unfold(model)
    learned = weights_of(copy)
    names = kernel_layers(copy)[::-1]
    normalizations = normalizations_behind(copy, set(names))
    stages = sorted({math.ceil(fraction * len(names)) for fraction in (*fractions, 1.0)})
    trained = _maps(explain(copy))
    compared: list[list[_Pair]] = [[] for _ in stages]
    for draw in range(draws):
        set_weights(copy, learned)
        done = 0
        for pairs, stage in zip(compared, stages, strict=True):
            for number in range(done, stage):
                generator = np.random.default_rng((seed, draw, number))
                for name in (names[number], *normalizations[names[number]]):
                    make_random(copy.get_layer(name), generator)
            done = stage
            pairs += _compared(trained, _maps(explain(copy)))
    return _result(tuple(map(_row, stages, (names[stage - 1] for stage in stages), compared)))


def _maps(explained: np.ndarray) -> np.ndarray:
    maps = np.abs(np.asarray(explained, np.float64))
    if maps.ndim not in (3, 4) or not maps.size:
        raise ShapeError(
            f"sanity check: expected maps (n, height, width) or (n, height, width, channels), found the shape "
            f"{maps.shape}. Let the function explain at least one image."
        )
    return maps.sum(axis=-1) if maps.ndim == 4 else maps


def _says_nothing(values: np.ndarray) -> bool:
    return bool(not np.isfinite(values).all() or values.min() == values.max())


class _Pair(NamedTuple):
    """How two maps of an image agree."""

    correlation: float
    similarity: float
    constant: bool


def _compared(trained: np.ndarray, reached: np.ndarray) -> list[_Pair]:
    if trained.shape != reached.shape:
        raise ShapeError(
            f"sanity check: expected maps of the shape {trained.shape} as of the trained network, found "
            f"{reached.shape} of a random one. Explain the same images each time."
        )
    pairs = []
    for before, after in zip(trained, reached, strict=True):
        if _says_nothing(before):
            continue
        constant = _says_nothing(after)
        correlation = 0.0 if constant else float(spearmanr(before, after, axis=None).statistic)
        pairs.append(_Pair(correlation, _similarity(before, np.nan_to_num(after, posinf=0.0)), constant))
    return pairs


def _row(layers: int, name: str, pairs: list[_Pair]) -> SanityRow:
    if not pairs:
        return SanityRow(layers, name, math.nan, math.nan, 0)
    correlations, similarities, constant = zip(*pairs, strict=True)
    return SanityRow(layers, name, float(np.mean(correlations)), float(np.mean(similarities)), sum(constant))


def _similarity(before: np.ndarray, after: np.ndarray) -> float:
    if min(before.shape) < _WINDOW:
        return math.nan
    before, after = (values / (values.max() or 1.0) for values in (before, after))
    return float(structural_similarity(before, after, win_size=_WINDOW, data_range=1.0))


def _result(rows: tuple[SanityRow, ...]) -> SanityResult:
    last = rows[-1]
    if math.isnan(last.correlation):
        return SanityResult(rows, False, "No map of the trained network says anything: each is constant.")
    passed = last.correlation < MOST_CORRELATED
    outcome = "The maps depend on the weights" if passed else "The maps hardly depend on the weights"
    relation = "below" if passed else "not below"
    message = (
        f"{outcome}: with all {last.layers} layers random their rank correlation with those of the trained network is "
        f"{last.correlation:.2f}, {relation} {MOST_CORRELATED}."
    )
    if last.constant:
        message += f" Maps that are then constant, which counts as a correlation of 0: {last.constant}."
    return SanityResult(rows, passed, message)
