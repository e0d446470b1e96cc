"""Averages over images that say how sure they are."""

import math
from collections.abc import Sequence

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
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence {confidence}, resamples {resamples}: expected 0 < confidence < 1 and resamples ≥ 1."
        )
    values = _one_dimensional(values)
    defined = ~np.isnan(values)
    sums, counts = values[defined], np.ones(np.count_nonzero(defined))
    if groups is not None:
        _, members = np.unique(_matching_groups(groups, values)[defined], return_inverse=True)
        sums, counts = np.bincount(members, weights=sums), np.bincount(members)
    if len(sums) < 2:
        return math.nan, math.nan
    means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
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


def _resampled_means(
    sums: np.ndarray, counts: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
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
