"""What a data set is like, by the index of its records alone: sizes, lesions, classes, counts. No pixels are read."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.split import several_regions

_PERCENTILES = (0, 5, 50, 95, 100)


@dataclass(frozen=True)
class Spread:
    """How far a quantity is spread over the images that have it.

    Attributes:
        smallest, largest: the extremes.
        low, high: 5 % of the images have less, or more.
        median: half of them have less.
    """

    smallest: float
    low: float
    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """The spread of some values; None for no values."""
        values = list(values)
        return cls.among(values) if values else None

    @classmethod
    def among(cls, values: Iterable[float]) -> "Spread":
        """The spread of one or more values."""
        return cls(*(float(value) for value in np.percentile(list(values), _PERCENTILES)))


@dataclass(frozen=True)
class Profile:
    """What the training part of a data set is like.

    Attributes:
        counts: images by part.
        classes: of pixels, the background included.
        height, width: of the images, pixels.
        aspect: width / height.
        lesion_fraction: share of the image, of images with a lesion; None where there is none.
        lesion_share: side of a square as large as one region of the lesion, as a share of the image's side, that is of
            the root of its area.
        lesion_side: the same in pixels of the image.
        spacing_mm: between rows; None where it is not told.
        several_regions: share, 0 to 1, of the masks whose lesion lies in several regions.
        without_lesion: share, 0 to 1, of the masks that are empty.
    """

    counts: Mapping[str, int]
    classes: int
    height: Spread
    width: Spread
    aspect: Spread
    lesion_fraction: Spread | None = None
    lesion_share: Spread | None = None
    lesion_side: Spread | None = None
    spacing_mm: Spread | None = None
    several_regions: float = 0.0
    without_lesion: float = 0.0

    @property
    def images(self) -> int:
        """Images to train on."""
        return self.counts["train"]

    @property
    def side(self) -> float:
        """Root of the area of an image of median height and width, pixels."""
        return math.sqrt(self.height.median * self.width.median)


def profile_of(records: Records, splits: Mapping[str, Sequence[str]]) -> Profile:
    """Profiles a data set.

    Args:
        records: their index is read, nothing else.
        splits: source ids by part; there is at least one in 'train', each with a mask.
    Returns:
        the profile of the training part, with the counts of all parts.
    """
    chosen = set(splits["train"])
    rows = [row for row in records.index if row.source_id in chosen]
    lesions = [row for row in rows if row.lesion_fraction]
    return Profile(
        counts={part: len(names) for part, names in splits.items()},
        classes=len(records.classes),
        height=Spread.among(row.height for row in rows),
        width=Spread.among(row.width for row in rows),
        aspect=Spread.among(row.width / row.height for row in rows),
        lesion_fraction=Spread.of(share for row in lesions if (share := row.lesion_fraction)),
        lesion_share=Spread.of(map(_region_share, lesions)),
        lesion_side=Spread.of(_region_share(row) * math.sqrt(row.height * row.width) for row in lesions),
        spacing_mm=Spread.of(row.spacing_mm[0] for row in rows if row.spacing_mm),
        several_regions=several_regions(records, splits["train"]),
        without_lesion=1 - len(lesions) / len(rows),
    )


def _region_share(row: IndexRow) -> float:
    """Regions are taken as equally large; the index does not tell how large each is."""
    return math.sqrt((row.lesion_fraction or 0) / max(1, row.regions))
