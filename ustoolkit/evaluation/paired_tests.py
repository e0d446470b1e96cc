"""Whether two methods differ on the same patients: the signed-rank test, its effect size, and many tests at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, wilcoxon

from ustoolkit.errors import ShapeError

# Differences nearer to each other than this are ties: averages of the same scores may differ by rounding.
_DECIMALS = 10


@dataclass(frozen=True)
class PairedTest:
    """A signed-rank test of two methods on the same patients.

    Attributes:
        p_value: two-sided, in [0, 1]; NaN with fewer than two patients.
        effect_size: matched-pairs rank-biserial correlation, in [-1, 1]: positive where the first method scores higher,
            whether or not higher is better; 1 where it does in every patient that differs. NaN with fewer than two
            patients.
        patients: how many have an image that is defined in both.
    """

    p_value: float
    effect_size: float
    patients: int


def signed_rank_test(
    first: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
    second: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
    groups: Sequence | np.ndarray | None = None,
) -> PairedTest:
    """Wilcoxon's signed-rank test of two methods, a patient at a time.

    Images of one patient resemble each other, and so do a method's runs with several seeds on one image. So each
    image's score is averaged over the seeds, and the differences over the images of a patient; the test takes one
    difference a patient: Wilcoxon, "Individual comparisons by ranking methods" (Biometrics Bulletin, 1945). Differences
    of zero are left out. The effect size is the share of the ranks that speak for the first method less the share that
    speaks against it: Kerby, "The simple difference formula" (Comprehensive Psychology, 2014). As it takes seeds for
    granted, the test says nothing of what another seed would do.

    Args:
        first: float (seeds, images), the scores of one method; an image that is NaN in any seed of either is left out.
        second: float (seeds, images), those of the other; it may have another number of seeds.
        groups: (images,), the patient of each image, or None where every image stands for itself.
    Returns:
        the test; p is 1 and the effect 0 where no patient differs.
    Raises:
        ShapeError: not two dimensions, no seed, not the same images, or not one group for each image.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not (len(first) and len(second)):
        raise ShapeError(
            f"the scores have shapes {first.shape} and {second.shape}; expected (seeds, images) with the same images. "
            "Score both methods on the same images."
        )
    patients = np.arange(first.shape[1]) if groups is None else np.asarray(groups)
    if patients.shape != first.shape[1:]:
        raise ShapeError(
            f"the groups have shape {patients.shape}; expected ({first.shape[1]},). "
            "Give the patient of each image, or leave the groups out."
        )
    difference = first.mean(axis=0) - second.mean(axis=0)
    defined = ~np.isnan(difference)
    names, members = np.unique(patients[defined], return_inverse=True)
    if len(names) < 2:
        return PairedTest(math.nan, math.nan, len(names))
    of_patients = np.round(np.bincount(members, weights=difference[defined]) / np.bincount(members), _DECIMALS)
    differing = of_patients[of_patients != 0]
    if not differing.size:
        return PairedTest(1.0, 0.0, len(names))
    ranks = rankdata(np.abs(differing))
    effect = float((np.sign(differing) * ranks).sum() / ranks.sum())
    return PairedTest(float(wilcoxon(differing).pvalue), effect, len(names))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Corrects the p values of a family of tests, so that one false alarm among all of them is as rare as asked for.

    Step-down: the smallest is multiplied by the number of tests, the next by one less, and so on; none becomes smaller
    than the one before it. Holm, "A simple sequentially rejective multiple test procedure" (Scandinavian Journal of
    Statistics, 1979).

    Args:
        p_values: float (tests,), in [0, 1]; a NaN, which is no test, does not count as one of the family.
    Returns:
        float64 (tests,), in [0, 1], none below the p value it came from; NaN where that is NaN.
    Raises:
        ShapeError: not one dimension.
        ValueError: a p value below 0 or above 1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1:
        raise ShapeError(f"the p values have shape {p_values.shape}; expected (tests,), one for each test.")
    defined = np.flatnonzero(~np.isnan(p_values))
    if ((p_values[defined] < 0) | (p_values[defined] > 1)).any():
        raise ValueError(f"p values from {np.nanmin(p_values)} to {np.nanmax(p_values)}: expected 0 to 1.")
    rising = defined[np.argsort(p_values[defined], kind="stable")]
    stepped = p_values[rising] * np.arange(len(rising), 0, -1)
    corrected = np.full(p_values.shape, math.nan)
    corrected[rising] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected
