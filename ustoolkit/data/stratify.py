"""Drawing whole groups of images at random so that classes and lesion sizes are spread evenly, and how even it is."""

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ustoolkit.data.records import IndexRow
from ustoolkit.errors import RecordsError

_MOST_FOLDS = 20
_FEWEST_FOLDS = 10  # with fewer, a share would be rounded too far
_MOST_SIZES = 5
_DRAWS = 20  # the most even of them is kept
_WEIGHT_OF_SIZE = 0.3  # beside class shares


def draw_share(
    rows: Sequence[IndexRow], share: float, seed: int, fewest: int, group_of: Mapping[str, str]
) -> list[IndexRow]:
    """About a share of the images, whole groups, classes and lesion sizes spread evenly.

    Args:
        rows: annotated images, in any order.
        share: 0 up to below 1.
        seed: another seed, another draw.
        fewest: groups that there must be.
        group_of: each patient's group.
    Raises:
        RecordsError: too few groups, or a share that is none.
    """
    if not 0 <= share < 1:
        raise RecordsError(f"expected a share of at least 0 and below 1, found {share}.")
    if share == 0 or not rows:
        return []
    count = len({group_of[row.patient_id] for row in rows})
    if count < fewest:
        raise RecordsError(
            f"expected at least {fewest} patients to divide, found {count}. Add patients, or if each image "
            "is a patient of its own, leave out --patient."
        )
    folds = min(_MOST_FOLDS, count)
    parts = _divide(rows, folds, seed, group_of, min(_FEWEST_FOLDS, folds))
    # The splitter puts the largest groups into its first folds, so folds are taken in orders of the seed's own.
    source = np.random.default_rng(seed)
    draws = [_take(parts, share * len(rows), source.permutation(len(parts))) for _ in range(_DRAWS)]
    return min(draws, key=lambda drawn: _unevenness(drawn, rows))  # the first of equals


def draw_folds(rows: Sequence[IndexRow], folds: int, seed: int, group_of: Mapping[str, str]) -> list[list[IndexRow]]:
    """The images in k folds, each image in one, whole groups, classes and lesion sizes spread evenly.

    Args:
        rows: annotated images, in any order.
        folds: 2 or more.
        seed: another seed, another draw.
        group_of: each patient's group.
    Raises:
        RecordsError: fewer groups than folds.
    """
    count = len({group_of[row.patient_id] for row in rows})
    if not 2 <= folds <= count:
        raise RecordsError(f"expected 2 to {count} folds, as many as there are patients, found {folds}.")
    parts = _divide(rows, folds, seed, group_of, folds)
    # Few patients of many kinds may leave a fold empty; then only its size counts.
    return parts if len(parts) == folds else _divide(rows, folds, seed, group_of, len(rows) + 1)


def balance(parts: Mapping[str, Sequence[IndexRow]]) -> dict[str, float]:
    """How far parts are from the whole, the largest difference each.

    Args:
        parts: annotated images by part; empty ones are left out.
    Returns:
        `class_share`: of a class's share, 0 to 1. `median_lesion_size`: of the median share of the image that lesions
        cover, relative to that of the whole; left out where no image has a lesion.
    """
    whole = [row for rows in parts.values() for row in rows]
    filled = [rows for rows in parts.values() if rows]
    share = _shares(whole)
    off = [abs(_shares(rows).get(label, 0.0) - share[label]) for rows in filled for label in share]
    even = {"class_share": round(max(off, default=0.0), 4)}
    size = _median_size(whole)
    if size is not None:
        sizes = [part for rows in filled if (part := _median_size(rows)) is not None]
        even["median_lesion_size"] = round(max(abs(part - size) / size for part in sizes), 4)
    return even


def format_balance(even: Mapping[str, float]) -> str:
    """`balance` in words."""
    text = f"from part to whole, class shares differ by up to {100 * even['class_share']:.1f} points"
    size = even.get("median_lesion_size")
    return text if size is None else f"{text}, median lesion sizes by up to {size:.0%}"


def _take(parts: Sequence[list[IndexRow]], wanted: float, order: np.ndarray) -> list[IndexRow]:
    """Parts in an order, as long as they bring the number of images nearer to the wanted one."""
    drawn: list[IndexRow] = []
    for number in order:
        if abs(len(drawn) + len(parts[number]) - wanted) < abs(len(drawn) - wanted):
            drawn.extend(parts[number])
    return drawn or min(parts, key=len)


def _unevenness(drawn: Sequence[IndexRow], rows: Sequence[IndexRow]) -> float:
    chosen = {row.source_id for row in drawn}
    even = balance({"drawn": drawn, "rest": [row for row in rows if row.source_id not in chosen]})
    return even["class_share"] + _WEIGHT_OF_SIZE * even.get("median_lesion_size", 0.0)


def _divide(
    rows: Sequence[IndexRow], folds: int, seed: int, group_of: Mapping[str, str], fewest: int
) -> list[list[IndexRow]]:
    """Up to so many folds, none empty; kinds of images count where the commonest has `fewest` at least."""
    # Rows are put in an order of the seed's own, so that the draw depends on ids alone, not on how they were listed.
    ordered = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.source_id}".encode()).digest())
    strata = _strata(ordered, folds)
    commonest = max(Counter(strata).values())
    if commonest < fewest:
        strata, commonest = [""] * len(ordered), len(ordered)
    splitter = StratifiedGroupKFold(min(folds, commonest), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a kind rarer than the folds is spread as far as it goes
        drawn = splitter.split(np.zeros(len(ordered)), strata, [group_of[row.patient_id] for row in ordered])
        return [[ordered[member] for member in members] for _, members in drawn if len(members)]


def _strata(rows: Sequence[IndexRow], folds: int) -> list[str]:
    """The class of each image with its lesion's size among that class, in as many steps as fill the folds."""
    sizes = defaultdict(list)
    for row in rows:
        sizes[row.label].append(row.lesion_fraction or 0.0)
    steps = {
        label: np.unique(np.quantile(found, np.linspace(0, 1, min(_MOST_SIZES, max(1, len(found) // folds)) + 1)[1:-1]))
        for label, found in sizes.items()
    }
    return [f"{np.searchsorted(steps[row.label], row.lesion_fraction or 0.0)} {row.label}" for row in rows]


def _shares(rows: Sequence[IndexRow]) -> dict[str, float]:
    return {label: count / len(rows) for label, count in Counter(row.label for row in rows).items()}


def _median_size(rows: Sequence[IndexRow]) -> float | None:
    sizes = [row.lesion_fraction for row in rows if row.lesion_fraction]
    return float(np.median(sizes)) if sizes else None
