"""Borderline-SMOTE2: synthetic images of rare classes, mixed where they are hard to tell from the others.

Han, Wang, Mao, "Borderline-SMOTE: a new over-sampling method in imbalanced data sets learning", ICIC 2005.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from imblearn.over_sampling import BorderlineSMOTE

from ustoolkit.errors import RecordsError

NEIGHBOURS = 5  # an image is mixed with one of so many
SURROUNDING = 10  # an image is on the border where half or more of so many are of other classes, but not all


def oversample(pixels: np.ndarray, labels: Sequence[str], seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Adds synthetic images until all classes are about as large as the largest.

    Each is a minority image on the border, moved part of the way towards one of its nearest images of any class,
    pixel by pixel; towards another class it goes less than halfway. `imbalanced-learn` does it.

    Args:
        pixels: uint8 (n, height, width, channels), of training patients only.
        labels: n classes.
        seed: another seed, other images.
    Returns:
        pixels (uint8, the given ones first), labels, and bool (n,): which are synthetic.
    Raises:
        RecordsError: fewer than two classes, a class of too few images, or one without an image on the border.
    """
    counts = Counter(labels)
    fewest = NEIGHBOURS + 1
    if len(counts) < 2:
        raise RecordsError(f"expected images of at least 2 classes to balance, found {', '.join(counts) or 'none'}.")
    small = sorted(label for label, count in counts.items() if count < fewest)
    if small:
        raise RecordsError(
            f"class '{small[0]}': Borderline-SMOTE2 needs at least {fewest} training images, found "
            f"{counts[small[0]]}. Add images, or expand with --method augment."
        )
    sampler = BorderlineSMOTE(kind="borderline-2", k_neighbors=NEIGHBOURS, m_neighbors=SURROUNDING, random_state=seed)
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)  # differences of bytes would wrap round
    mixed, mixed_labels = sampler.fit_resample(flat, np.array(labels))
    made = mixed[len(pixels) :]
    reached = Counter(mixed_labels.tolist())
    unreached = sorted(
        label for label in counts if counts[label] < max(counts.values()) and reached[label] == counts[label]
    )
    if unreached:
        raise RecordsError(
            f"class '{unreached[0]}': no image lies on the border to another class, where Borderline-SMOTE2 begins. "
            "Expand with --method augment."
        )
    synthetic = np.clip(np.rint(made), 0, 255).astype(np.uint8).reshape(-1, *pixels.shape[1:])
    is_synthetic = np.arange(len(mixed)) >= len(pixels)
    return np.concatenate([pixels, synthetic]), mixed_labels.tolist(), is_synthetic
