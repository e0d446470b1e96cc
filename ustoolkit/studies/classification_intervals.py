"""How sure scores of classifiers are that were trained with several seeds: patients and seeds are drawn.

The pattern is that of `ustoolkit.evaluation.statistics.paired_difference`, for scores that are no means over images.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from ustoolkit.evaluation.calibration import weighted_slope_intercept
from ustoolkit.evaluation.statistics import PairedDifference
from ustoolkit.studies.classification_scores import Scored

RESAMPLES, SLOPE_RESAMPLES = 2000, 500

Statistic = Callable[[np.ndarray], np.ndarray]
"""A score of one seed: takes how often each patient counts, float (weightings, patients), gives float (weightings,)."""


def estimate(
    statistics: Sequence[Statistic], patients: int, images: int, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference:
    """A score averaged over seeds, and its 95 % interval.

    The percentile bootstrap draws whole patients, and seeds: patients and seeds are crossed, as in Owen, "The
    pigeonhole bootstrap" (Annals of Applied Statistics, 2007). A draw of n seeds is stretched by √(n / (n − 1)), since
    few seeds vary too little, after Rao and Wu, "Resampling inference with complex survey data" (JASA, 1988). Where a
    statistic is a difference of arms, both are of the same seed, so that seeds are drawn in pairs; whatever else the
    arms share of a seed, such as which copies are made, needs no assumption then. One seed does not show what another
    would do: the interval is over patients alone.

    Args:
        statistics: of each seed, 1 or more.
        patients: how many.
        images: how many, to say so.
        resamples: how many are drawn.
        seed: of the bootstrap.
    Returns:
        the mean over seeds; NaN for the interval with fewer than two patients. Resamples in which the score is
        undefined are left out.
    """
    whole = np.ones((1, patients))
    mean = float(np.mean([statistic(whole)[0] for statistic in statistics]))
    if patients < 2 or math.isnan(mean):
        return PairedDifference(mean, math.nan, math.nan, images, patients)
    drawn, weights = _drawn(patients, len(statistics), resamples, seed)
    values = sum(weight * statistic(drawn) for weight, statistic in zip(weights.T, statistics, strict=True))
    defined = values[~np.isnan(values)]
    low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (math.nan, math.nan)
    return PairedDifference(mean, float(low), float(high), images, patients)


class AucStatistic:
    """Area under the ROC curve, or a weighted sum of several on the same images; see `Statistic`."""

    def __init__(self, terms: Sequence[tuple[float, Scored]], patients: Sequence[str]) -> None:
        """Counts how often each patient's positives are above each patient's negatives; ties are half.

        Args:
            terms: the factor of each area, and what it is of; the images and their truth are the same in all.
            patients: all that there are, in the order of the weights.
        """
        place = {name: number for number, name in enumerate(patients)}
        first = terms[0][1]
        members, positive = np.array([place[name] for name in first.patients]), first.positive
        self._with_positives, row = np.unique(members[positive], return_inverse=True)
        self._with_negatives, column = np.unique(members[~positive], return_inverse=True)
        self._positives, self._negatives = np.bincount(row), np.bincount(column)
        self._above = np.zeros((len(self._positives), len(self._negatives)))
        for factor, scored in terms:
            above, below = scored.probability[positive][:, None], scored.probability[~positive][None]
            order = (above > below) + 0.5 * (above == below)
            np.add.at(self._above, (row[:, None], column[None]), factor * order)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Areas by weighting; NaN where a class is missing."""
        of_positives, of_negatives = weights[:, self._with_positives], weights[:, self._with_negatives]
        pairs = (of_positives @ self._positives) * (of_negatives @ self._negatives)
        sums = ((of_positives @ self._above) * of_negatives).sum(axis=1)
        return np.divide(sums, pairs, out=np.full(len(weights), math.nan), where=pairs > 0)


def estimate_auc(runs: Sequence[Scored]) -> PairedDifference:
    """Area under the ROC curve, mean over seeds, with its interval; see `estimate`."""
    return estimate_effect([[(1.0, run)] for run in runs])


def estimate_effect(seeds: Sequence[Sequence[tuple[float, Scored]]]) -> PairedDifference:
    """A weighted sum of areas under ROC curves, mean over seeds, with its interval; see `estimate`.

    Args:
        seeds: for each seed, the terms of `AucStatistic`; the seeds may be tested on other images.
    """
    patients = sorted({name for terms in seeds for name in terms[0][1].patients.tolist()})
    statistics = [AucStatistic(terms, patients) for terms in seeds]
    return estimate(statistics, len(patients), len(seeds[0][0][1].names))


def estimate_brier(runs: Sequence[Scored]) -> PairedDifference:
    """Brier score, mean over seeds, with its interval; see `estimate`."""
    return estimate([_brier(run) for run in runs], *_size(runs))


def estimate_slope(runs: Sequence[Scored]) -> PairedDifference:
    """Slope of calibration, mean over seeds, with its interval; see `estimate`."""
    return estimate([_slope(run) for run in runs], *_size(runs), resamples=SLOPE_RESAMPLES)


@lru_cache(maxsize=8)  # as every score of a table draws the same, and drawing takes longer than scoring
def _drawn(patients: int, seeds: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each patient counts, (resamples, patients), and the weight of each seed, (resamples, seeds)."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)
    shares = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    stretch = math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0
    return drawn, 1 / seeds + (shares - 1 / seeds) * stretch


def _size(runs: Sequence[Scored]) -> tuple[int, int]:
    return len(np.unique(runs[0].patients)), len(runs[0].names)


def _brier(run: Scored) -> Statistic:
    members = np.unique(run.patients, return_inverse=True)[1]
    sums, counts = np.bincount(members, (run.probability - run.positive) ** 2), np.bincount(members)
    return lambda weights: (weights @ sums) / (weights @ counts)


def _slope(run: Scored) -> Statistic:
    members = np.unique(run.patients, return_inverse=True)[1]
    return lambda weights: weighted_slope_intercept(run.positive, run.probability, weights[:, members])[0]
