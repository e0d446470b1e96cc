"""What is measured of one image, in a worker process; only the findings travel back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ustoolkit.data.example import pixel_digest
from ustoolkit.data.fingerprint import fingerprint
from ustoolkit.data.overlays import Overlays, find_overlays
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import IndexRow
from ustoolkit.data.sample import count_regions
from ustoolkit.errors import DataError

_NOTHING_DRAWN = Overlays(coloured_fraction=0.0, calipers=0, text_regions=0)
LONGEST_VALUE = 200  # characters; a longer attribute is a report's text, not a category


@dataclass(frozen=True, slots=True)
class Finding:
    """One image, measured.

    Attributes:
        source_id, patient_id, label, spacing_mm, attributes: as in `Sample`; long attributes are dropped.
        refused: why it could not be read; '' where it was, and the rest stands for something.
        height, width: pixels.
        channels: 1 or 3.
        mean_intensity: of all pixels, 0 to 255.
        uniform: whether all pixels are one colour.
        lesion_fraction: share of the pixels that are no background, or None where there is no mask.
        class_pixels: how many pixels have mask value 0, 1, …
        regions: connected regions of the class that has most.
        box_overlap: of the mask's bounding box with the attribute `lesion_box`: intersection over union, 0 to 1;
            None where one of them is missing.
        outside_view: share of the lesion outside of the attribute `field_of_view`; None where one is missing.
        overlays: what is drawn over the image.
        sha256, mask_sha256: digests of the pixels.
        fingerprint: what near duplicates are found by.
    """

    source_id: str
    refused: str = ""
    patient_id: str = ""
    label: str = ""
    height: int = 0
    width: int = 0
    channels: int = 0
    spacing_mm: tuple[float, float] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    mean_intensity: float = 0.0
    uniform: bool = False
    lesion_fraction: float | None = None
    class_pixels: tuple[int, ...] = ()
    regions: int = 0
    box_overlap: float | None = None
    outside_view: float | None = None
    overlays: Overlays = _NOTHING_DRAWN
    sha256: str = ""
    mask_sha256: str = ""
    fingerprint: bytes = b""


Row = Finding | IndexRow  # what rules take that need no pixels


def examine(entry: Entry) -> Finding:
    """Loads an image and measures it; one that cannot be read becomes a refused finding."""
    try:
        sample = entry.load()
    except DataError as problem:
        return Finding(entry.source_id, refused=str(problem))
    image, mask = sample.image, sample.mask
    height, width, channels = image.shape
    return Finding(
        source_id=sample.source_id,
        patient_id=sample.patient_id,
        label=sample.label,
        height=height,
        width=width,
        channels=channels,
        spacing_mm=sample.spacing_mm,
        attributes={name: value for name, value in sample.attributes.items() if len(str(value)) <= LONGEST_VALUE},
        mean_intensity=float(np.mean(cv2.mean(image)[:channels])),
        uniform=bool((image == image[0, 0]).all()),
        lesion_fraction=None if mask is None else np.count_nonzero(mask) / mask.size,
        class_pixels=() if mask is None else tuple(np.bincount(mask.ravel()).tolist()),
        regions=0 if mask is None else count_regions(mask),
        box_overlap=box_overlap(mask, sample.attributes.get("lesion_box")),
        outside_view=outside_view(mask, sample.attributes.get("field_of_view")),
        overlays=find_overlays(image),
        sha256=pixel_digest(image),
        mask_sha256="" if mask is None else pixel_digest(mask),
        fingerprint=fingerprint(image),
    )


def start_worker() -> None:
    """Keeps OpenCV to one thread: the processes share the cores already."""
    cv2.setNumThreads(1)


def box_overlap(mask: np.ndarray | None, box: Any) -> float | None:
    """Intersection over union of the mask's bounding box and another.

    Args:
        mask: uint8 (height, width), or None.
        box: x, y, width, height in pixels.
    Returns:
        0 to 1; None without a mask, a lesion in it, or a box.
    """
    told = box_edges(box)
    if mask is None or told is None or not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    drawn = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    shared = [max(0.0, min(drawn[axis + 2], told[axis + 2]) - max(drawn[axis], told[axis])) for axis in (0, 1)]
    both = shared[0] * shared[1]
    areas = [(edges[2] - edges[0]) * (edges[3] - edges[1]) for edges in (drawn, told)]
    return float(both / (sum(areas) - both))


def outside_view(mask: np.ndarray | None, view: Any) -> float | None:
    """Share of the lesion's pixels that lie outside of a box.

    Args:
        mask: uint8 (height, width), or None.
        view: x, y, width, height in pixels.
    Returns:
        0 to 1; None without a mask, a lesion in it, or a box.
    """
    edges = box_edges(view)
    if mask is None or edges is None or not mask.any():
        return None
    left, top, right, bottom = (max(0, round(edge)) for edge in edges)
    return 1 - np.count_nonzero(mask[top:bottom, left:right]) / np.count_nonzero(mask)


def box_edges(box: Any) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a box.

    Args:
        box: x, y, width, height in pixels, as an image's attributes hold it.
    Returns:
        the edges; None for what is no such box.
    """
    if not isinstance(box, Sequence) or len(box) != 4:
        return None
    if not all(isinstance(value, int | float) and np.isfinite(value) for value in box) or min(box[2:]) <= 0:
        return None
    x, y, width, height = map(float, box)
    return x, y, x + width, y + height
