"""Counts, sizes and intensities of images, as a whole and by label and device."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ustoolkit.data.audit.examine import Finding, Row

DEVICE = ("device", "scanner")  # attributes, in any case
NO_NAME = "(none)"
_BINS = 16


def statistics(read: Sequence[Finding]) -> dict[str, Any]:
    """What a set of images holds.

    Returns:
        JSON-serialisable: `images`, `patients`, `annotated`, and the spreads of `height`, `width` (pixels),
        `spacing_row_mm`, `mean_intensity` (0 to 255), `lesion_fraction` (of the image) and `lesion_diameter_mm` (of a
        circle of the lesion's area), the last two of images with a lesion; an empty spread where nothing is known.
    """
    return {
        "images": len(read),
        "patients": len({item.patient_id for item in read}),
        "annotated": sum(item.lesion_fraction is not None for item in read),
        "height": spread(item.height for item in read),
        "width": spread(item.width for item in read),
        "spacing_row_mm": spread(item.spacing_mm[0] for item in read if item.spacing_mm),
        "mean_intensity": spread(item.mean_intensity for item in read),
        "lesion_fraction": spread(item.lesion_fraction for item in read if item.lesion_fraction),
        "lesion_diameter_mm": spread(value for item in read if (value := diameter_mm(item)) is not None),
    }


def by_label(read: Iterable[Row]) -> dict[str, int]:
    """How many images have which label."""
    return dict(sorted(Counter(item.label or NO_NAME for item in read).items()))


def statistics_by(read: Sequence[Finding]) -> dict[str, dict[str, dict[str, Any]]]:
    """`statistics` of each label and, where devices are told, of each device, the commonest first."""
    return {
        key: {name: statistics(members) for name, members in groups.items()} for key, groups in _groups(read).items()
    }


def class_statistics(read: Iterable[Finding], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each class of pixels but the background: in how many masks it occurs, and the share of the image it takes."""
    shares = defaultdict(list)
    for item in read:
        for index, pixels in enumerate(item.class_pixels[1:], start=1):
            if pixels:
                shares[index].append(pixels / sum(item.class_pixels))
    names = dict(enumerate(classes))
    count = max([len(classes), *(index + 1 for index in shares)])
    return {
        names.get(index, f"class {index}"): {"images": len(shares[index]), "fraction": spread(shares[index])}
        for index in range(1, count)
    }


def histograms(read: Sequence[Finding]) -> dict[str, dict[str, Any]]:
    """How many images have which lesion size and which mean intensity, by label and device.

    Returns:
        by quantity: its `name` with the unit, the `edges` of the bins, whether they are `logarithmic`, and the counts
        in each bin `by` 'label' and 'device' and their names.
    """
    sized = [item for item in read if item.lesion_fraction]
    edges = [float(edge) for edge in range(0, 257, 256 // _BINS)]
    plots = {"intensity": _histogram("mean grey value", read, [item.mean_intensity for item in read], edges)}
    if sized:
        name, sizes = "lesion diameter, mm", [size for item in sized if (size := diameter_mm(item)) is not None]
        if len(sizes) < len(sized):
            name, sizes = "lesion, % of the image", [100 * share for item in sized if (share := item.lesion_fraction)]
        # Rounding must leave none outside.
        edges = np.geomspace(min(sizes) / 1.001, max(sizes) * 1.001, _BINS + 1).tolist()
        plots["lesion_size"] = _histogram(name, sized, sizes, edges) | {"logarithmic": True}
    return plots


def spread(values: Iterable[float]) -> dict[str, float]:
    """Smallest, quartiles, median and largest; empty for no values."""
    values = list(values)
    if not values:
        return {}
    names = ("smallest", "lower_quartile", "median", "upper_quartile", "largest")
    found = np.percentile(values, [0, 25, 50, 75, 100])
    return {name: round(float(value), 5) for name, value in zip(names, found, strict=True)}


def device_of(row: Row) -> str:
    """The scanner by the image's attributes; '' where they do not tell."""
    told = {name.strip().lower(): value for name, value in row.attributes.items()}
    return next((str(told[name]).strip() for name in DEVICE if told.get(name)), "")


def diameter_mm(item: Finding) -> float | None:
    """Diameter of a circle of the lesion's area; None where size or spacing is unknown, or there is no lesion."""
    if not item.lesion_fraction or not item.spacing_mm:
        return None
    area = item.lesion_fraction * item.height * item.width * math.prod(item.spacing_mm)
    return 2 * math.sqrt(area / math.pi)


def _groups(read: Sequence[Finding]) -> dict[str, dict[str, list[Finding]]]:
    grouped = {"label": _grouped(read, lambda item: item.label)}
    if any(map(device_of, read)):
        grouped["device"] = _grouped(read, device_of)
    return grouped


def _grouped(read: Sequence[Finding], name_of: Callable[[Finding], str]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for item in read:
        groups[name_of(item) or NO_NAME].append(item)
    return dict(sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def _histogram(name: str, read: Sequence[Finding], values: Sequence[float], edges: list[float]) -> dict[str, Any]:
    value_of = {item.source_id: value for item, value in zip(read, values, strict=True)}
    by = {
        key: {
            group: np.histogram([value_of[item.source_id] for item in members], edges)[0].tolist()
            for group, members in groups.items()
        }
        for key, groups in _groups(read).items()
    }
    return {"name": name, "edges": edges, "logarithmic": False, "by": by}
