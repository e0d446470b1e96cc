"""Averages over images that say how sure they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ustoolkit.errors import ShapeError

# Resamples are drawn in blocks of about this many group indices, 8 MB, however many patients there are.
_BLOCK_SIZE = 2**20


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    groups: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, drawing whole patients where they are given.

    Images of one patient resemble each other, so drawing them one by one would make the interval too narrow.
    After Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; for whole groups see
    Davison and Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8.

    Args:
        values: float (n,), a metric of each image; NaN values are left out.
        groups: (n,), the patient of each value, or None where every value stands for itself.
        confidence: the share of intervals that should hold the true mean, above 0 and below 1.
        resamples: how many bootstrap means are drawn.
        seed: the same seed gives the same interval.
    Returns:
        (low, high); (NaN, NaN) where fewer than two groups have a defined value.
    Raises:
        ShapeError: there is not one group for each value.
        ValueError: the confidence is not between 0 and 1, or no resamples are asked for.
    """
    _check_bootstrap(confidence, resamples)
    values = _one_dimensional(values)
    defined = ~np.isnan(values)
    sums, counts = values[defined], np.ones(np.count_nonzero(defined), np.int64)
    if groups is not None:
        _, members = np.unique(_matching_groups(groups, values)[defined], return_inverse=True)
        sums, counts = np.bincount(members, weights=sums), np.bincount(members)
    if len(sums) < 2:
        return math.nan, math.nan
    means = resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def summarise(
    values: Sequence[float] | np.ndarray, groups: Sequence | np.ndarray | None = None, seed: int = 0
) -> dict[str, float | int]:
    """Mean, spread and 95 % interval of a metric, and on how many images it was defined.

    Args:
        values: float (n,), a metric of each image, NaN where undefined.
        groups: (n,), the patient of each value, or None where every value stands for itself.
        seed: of the bootstrap interval.
    Returns:
        dict of mean, standard_deviation (ddof 1; NaN below two values), median, interval_low, interval_high
        (see `bootstrap_interval`), all of the defined values, count (how many are defined) and undefined
        (how many are NaN). Where none is defined, all but the last two are NaN.
    Raises:
        ShapeError: there is not one group for each value.
    """
    values = _one_dimensional(values)
    low, high = bootstrap_interval(values, groups, seed=seed)
    defined = values[~np.isnan(values)]
    return {
        "mean": float(defined.mean()) if defined.size else math.nan,
        "standard_deviation": float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        "median": float(np.median(defined)) if defined.size else math.nan,
        "interval_low": low,
        "interval_high": high,
        "count": int(defined.size),
        "undefined": int(values.size - defined.size),
    }


@dataclass(frozen=True)
class PairedDifference:
    """How much higher one method scores than another on the same images.

    Attributes:
        mean: of the difference, first minus second, over images; NaN where no image is defined in both.
        interval_low, interval_high: of its 95 % interval (or another); NaN where it is undefined.
        images: how many are defined in both.
        groups: how many patients they are of.
    """

    mean: float
    interval_low: float
    interval_high: float
    images: int
    groups: int

    @property
    def verdict(self) -> str:
        """'better' or 'worse' where the interval is above or below zero, else 'undecided'."""
        if self.interval_low > 0:
            return "better"
        return "worse" if self.interval_high < 0 else "undecided"


def paired_difference(
    first: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
    second: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
    groups: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of two methods, each trained with several seeds, on the same images.

    Each image's score is averaged over the seeds of a method, the difference is taken image by image, and these are
    averaged. The percentile bootstrap draws whole patients, the same for both methods, and the seeds of each method
    on their own: images and seeds are crossed, as in Owen, "The pigeonhole bootstrap" (Annals of Applied Statistics,
    2007). A few seeds drawn with replacement vary too little, by (n − 1) / n, so that what a draw of n seeds moves is
    stretched by √(n / (n − 1)), after Rao and Wu, "Resampling inference with complex survey data" (JASA, 1988).
    In simulations with three seeds the interval held the true difference in 93 to 96 % where patients vary as much as
    seeds, and in 88 % where seeds vary far more. With a single seed the interval is over patients only, and says
    nothing of what another seed would do.

    Args:
        first: float (seeds, images), the scores of one method; an image that is NaN in any seed of either method is
            left out.
        second: float (seeds, images), those of the other; it may have another number of seeds.
        groups: (images,), the patient of each image, or None where every image stands for itself.
        confidence: the share of intervals that should hold the true difference, above 0 and below 1.
        resamples: how many bootstrap differences are drawn.
        seed: of the bootstrap; the same seed gives the same interval.
    Returns:
        first minus second; the interval is (NaN, NaN) where fewer than two patients have a defined image.
    Raises:
        ShapeError: not two dimensions, no seed, or not the same images.
        ValueError: the confidence is not between 0 and 1, or no resamples are asked for.
    """
    _check_bootstrap(confidence, resamples)
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not (len(first) and len(second)):
        raise ShapeError(
            f"the scores have shapes {first.shape} and {second.shape}; expected (seeds, images) with the same images. "
            "Score both methods on the same images."
        )
    patients = np.arange(first.shape[1]) if groups is None else _matching_groups(groups, first[0])
    defined = ~(np.isnan(first).any(axis=0) | np.isnan(second).any(axis=0))
    names, members = np.unique(patients[defined], return_inverse=True)
    images = int(np.count_nonzero(defined))
    if not images:
        return PairedDifference(math.nan, math.nan, math.nan, 0, 0)
    first_sums = np.stack([np.bincount(members, weights=row) for row in first[:, defined]])
    second_sums = np.stack([np.bincount(members, weights=row) for row in second[:, defined]])
    mean = float((first_sums.mean(axis=0) - second_sums.mean(axis=0)).sum() / images)
    if len(names) < 2:
        return PairedDifference(mean, math.nan, math.nan, images, len(names))
    differences = resampled_differences(
        first_sums, second_sums, np.bincount(members), resamples, np.random.default_rng(seed)
    )
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(mean, float(low), float(high), images, len(names))


def resampled_differences(
    first_sums: np.ndarray,
    second_sums: np.ndarray,
    counts: np.ndarray,
    resamples: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Bootstrap means of first minus second, from sums (seeds, patients) and the images of each patient."""
    first_weights = _seed_weights(len(first_sums), resamples, generator)
    second_weights = _seed_weights(len(second_sums), resamples, generator)
    number = len(counts)
    block = max(1, _BLOCK_SIZE // number)
    differences = np.empty(resamples)
    for start in range(0, resamples, block):
        rows = slice(start, min(start + block, resamples))
        drawn = generator.multinomial(number, np.full(number, 1 / number), size=rows.stop - start)
        first = (drawn @ first_sums.T * first_weights[rows]).sum(axis=1)
        second = (drawn @ second_sums.T * second_weights[rows]).sum(axis=1)
        differences[rows] = (first - second) / (drawn @ counts)
    return differences


def _seed_weights(seeds: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Weight of each seed in each resample, float (resamples, seeds); each row adds up to 1."""
    if seeds == 1:
        return np.ones((resamples, 1))
    shares = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    return 1 / seeds + (shares - 1 / seeds) * math.sqrt(seeds / (seeds - 1))


def _check_bootstrap(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence {confidence}, resamples {resamples}: expected 0 < confidence < 1 and resamples ≥ 1."
        )


def resampled_means(sums: np.ndarray, counts: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Bootstrap means float (resamples,), from the sum and the number of images of each patient, both (patients,)."""
    number = len(sums)
    block = max(1, _BLOCK_SIZE // number)
    means = np.empty(resamples)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        drawn = generator.integers(0, number, size=(stop - start, number))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _one_dimensional(values: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"the values have shape {values.shape}; expected (n,), one for each image.")
    return values


def _matching_groups(groups: Sequence | np.ndarray, values: np.ndarray) -> np.ndarray:
    groups = np.asarray(groups)
    if groups.shape != values.shape:
        raise ShapeError(
            f"the groups have shape {groups.shape}, the values {values.shape}; expected the same. "
            "Give the patient of each value, or leave the groups out."
        )
    return groups
