"""Borderline-SMOTE2: synthetic images of rare classes, mixed where they are hard to tell from the others.

Han, Wang, Mao, "Borderline-SMOTE: a new over-sampling method in imbalanced data sets learning", ICIC 2005.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from imblearn.over_sampling import BorderlineSMOTE

from ustoolkit.errors import RecordsError

NEIGHBOURS = 5  # an image is mixed with one of so many
SURROUNDING = 10  # an image is on the border where half or more of so many are of other classes, but not all
FEWEST = NEIGHBOURS + 1  # images of a class: one and its neighbours
_REMEDY = "expand with --method augment"


def border_sampler(seed: int) -> BorderlineSMOTE:
    """Borderline-SMOTE2 with the toolkit's numbers of neighbours.

    Args:
        seed: another seed, other mixtures.
    Returns:
        a sampler of `imbalanced-learn`; its `fit_resample` gives the rows it was given first, then the synthetic ones.
    """
    return BorderlineSMOTE(kind="borderline-2", k_neighbors=NEIGHBOURS, m_neighbors=SURROUNDING, random_state=seed)


def refuse_too_few(counts: Mapping[str, int], place: str = "", remedy: str = _REMEDY) -> None:
    """Refuses classes of fewer images than Borderline-SMOTE2 mixes.

    Args:
        counts: training images of each class, 0 for one that is expected and has none.
        place: where they were counted, such as 'in fold 2 of 5'; empty for the whole part.
        remedy: what can be done besides adding images, a clause.
    Raises:
        RecordsError: a class has fewer than `FEWEST` images.
    """
    for label in sorted(counts):
        if counts[label] < FEWEST:
            raise RecordsError(
                f"class '{label}': Borderline-SMOTE2 needs at least {FEWEST} training images, found {counts[label]}"
                f"{place and ' '}{place}. Add images, or {remedy}."
            )


def refuse_no_border(before: Mapping[str, int], after: Mapping[str, int], remedy: str = _REMEDY) -> None:
    """Refuses a result in which a class that is smaller than the largest got no synthetic image.

    Args:
        before: images of each class.
        after: the same with the synthetic ones.
        remedy: what can be done, a clause.
    Raises:
        RecordsError: a class has no image on the border, so that Borderline-SMOTE2 had nothing to begin with.
    """
    largest = max(before.values())
    for label in sorted(before):
        if before[label] < largest and after[label] == before[label]:
            raise RecordsError(
                f"class '{label}': no image lies on the border to another class, where Borderline-SMOTE2 begins. "
                f"{remedy[:1].upper()}{remedy[1:]}."
            )


def oversample(
    pixels: np.ndarray, labels: Sequence[str], seed: int = 0, remedy: str = _REMEDY
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Adds synthetic images until all classes are about as large as the largest.

    Each is a minority image on the border, moved part of the way towards one of its nearest images of any class,
    pixel by pixel; towards another class it goes less than halfway. `imbalanced-learn` does it.

    Args:
        pixels: uint8 (n, height, width, channels), of training patients only.
        labels: n classes.
        seed: another seed, other images.
        remedy: what can be done where there are too few images, a clause.
    Returns:
        pixels (uint8, the given ones first), labels, and bool (n,): which are synthetic.
    Raises:
        RecordsError: fewer than two classes, a class of too few images, or one without an image on the border.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise RecordsError(f"expected images of at least 2 classes to balance, found {', '.join(counts) or 'none'}.")
    refuse_too_few(counts, remedy=remedy)
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)  # differences of bytes would wrap round
    mixed, mixed_labels = border_sampler(seed).fit_resample(flat, np.array(labels))
    refuse_no_border(counts, Counter(mixed_labels.tolist()), remedy)
    made = mixed[len(pixels) :]
    synthetic = np.clip(np.rint(made), 0, 255).astype(np.uint8).reshape(-1, *pixels.shape[1:])
    is_synthetic = np.arange(len(mixed)) >= len(pixels)
    return np.concatenate([pixels, synthetic]), mixed_labels.tolist(), is_synthetic
