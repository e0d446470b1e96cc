"""Images by what they show and how they were taken: by label, by size of the lesion, by any attribute."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ustoolkit.errors import DataError

UNKNOWN = "unknown"
MOST_VALUES = 12  # of an attribute that is taken without being asked for
LABEL, SIZE = "label", "size"

# What data sets call the same thing; the first that an image's attributes have is taken.
_SPELLINGS = {
    "device": (
        "device",
        "scanner",
        "machine",
        "manufacturer",
        "manufacturermodelname",
        "model",
        "ultrasoundsystem",
        "system",
    ),
    "birads": ("birads", "biradscategory", "biradsscore", "biradsclass"),
    "histology": ("histology", "histologicaltype", "pathology", "diagnosis"),
    "side": ("side", "laterality"),
}


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image beside its pixels.

    Attributes:
        label: '' where it has none.
        lesion_fraction: share of the image that is lesion, in [0, 1]; None where it is not known.
        attributes: whatever else the data set knew, by name.
    """

    label: str = ""
    lesion_fraction: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Grouping:
    """One way of dividing images.

    Attributes:
        name: 'label', 'size', or the attribute's name as the data set spells it.
        groups: bool (images,) by name of the group, none of them empty; each image is in one.
    """

    name: str
    groups: Mapping[str, np.ndarray]


def subgroups(images: Sequence[ImageFacts], by: Sequence[str] = ()) -> list[Grouping]:
    """Divides images in several ways.

    Small, medium and large lesions are a third of the images with a lesion each, by their share of the image. Names
    are compared without case and punctuation, and by what data sets call the same thing: 'device' finds 'Scanner' and
    'Manufacturer' too, 'birads' 'BI-RADS category'.

    Args:
        images: to divide.
        by: 'label', 'size', names of attributes; none for all that divide the images, without attributes that have one
            value or more than `MOST_VALUES`, or lists and tables for values.
    Returns:
        the groupings in the order of `by`, or label, size and the attributes in the order of the alphabet. An image
        without a value is in the group 'unknown', which comes last; one without a lesion in 'no lesion'.
    Raises:
        DataError: no image has an attribute of that name, or its values are lists or tables.
    """
    if by:
        groupings = {grouping.name: grouping for grouping in (_named(images, name) for name in by)}
        return [grouping for grouping in groupings.values() if grouping.groups]
    found = [_by_label(images), _by_size(images)]
    names = sorted({name for image in images for name in image.attributes}, key=lambda name: (_plain(name), name))
    names = [name for name in names if _plain(name) not in (LABEL, SIZE) and _is_plain(images, (name,))]
    found += [_by_attribute(images, (name,)) for name in names]
    return [grouping for grouping in found if _divides(grouping)]


def _named(images: Sequence[ImageFacts], name: str) -> Grouping:
    wanted = _plain(name)
    if wanted in (LABEL, SIZE):
        return _by_label(images) if wanted == LABEL else _by_size(images)
    spellings = next((_ordered(wanted, group) for group in _SPELLINGS.values() if wanted in group), (wanted,))
    present = dict.fromkeys(key for image in images for key in image.attributes)
    for spelling in spellings:
        keys = tuple(key for key in present if _plain(key) == spelling)
        if keys and not _is_plain(images, keys):
            raise DataError(f"'{name}': expected an attribute with a value an image, found lists. Choose another.")
        if keys:
            return _by_attribute(images, keys)
    there = ", ".join(sorted(key for key in present if _is_plain(images, (key,))))
    raise DataError(
        f"'{name}': no image has an attribute of that name. Choose from {LABEL}, {SIZE}{', ' if there else ''}{there}."
    )


def _by_label(images: Sequence[ImageFacts]) -> Grouping:
    return _grouping(LABEL, [image.label or UNKNOWN for image in images])


def _by_size(images: Sequence[ImageFacts]) -> Grouping:
    fractions = [image.lesion_fraction for image in images]
    lesions = [fraction for fraction in fractions if fraction]
    low, high = np.quantile(lesions, [1 / 3, 2 / 3]) if lesions else (math.nan, math.nan)
    small, medium, large = (
        f"small, up to {100 * low:.1f} %",
        f"medium, up to {100 * high:.1f} %",
        f"large, over {100 * high:.1f} %",
    )

    def named(fraction: float | None) -> str:
        if fraction is None:
            return UNKNOWN
        if not fraction:
            return "no lesion"
        return small if fraction <= low else medium if fraction <= high else large

    return _grouping(SIZE, [named(fraction) for fraction in fractions], (small, medium, large, "no lesion"))


def _by_attribute(images: Sequence[ImageFacts], keys: Sequence[str]) -> Grouping:
    values = [[_text(image.attributes.get(key)) for key in keys] for image in images]
    return _grouping(keys[0], [next((text for text in texts if text), UNKNOWN) for texts in values])


def _grouping(name: str, values: Sequence[str], order: Sequence[str] = ()) -> Grouping:
    """The groups that occur: in the order that is given, else by number or by the alphabet."""
    places = {value: number for number, value in enumerate(order)}
    names = sorted(
        set(values), key=lambda value: (value == UNKNOWN, places.get(value, len(places)), *_sorted_as(value))
    )
    of_images = np.array(values, dtype=object)
    return Grouping(name, {value: of_images == value for value in names})


def _sorted_as(value: str) -> tuple[float, str]:
    try:
        number = float(value)
    except ValueError:
        number = math.inf
    return (math.inf if math.isnan(number) else number), value


def _divides(grouping: Grouping) -> bool:
    known = [name for name in grouping.groups if name != UNKNOWN]
    if grouping.name in (LABEL, SIZE):
        return len(grouping.groups) > 1
    return len(known) > 1 and len(known) <= MOST_VALUES


def _is_plain(images: Sequence[ImageFacts], keys: Sequence[str]) -> bool:
    return not any(isinstance(image.attributes.get(key), list | dict | tuple) for image in images for key in keys)


def _text(value: Any) -> str:
    """A value as the name of a group; '' where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # A column of numbers with gaps is often read as floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _ordered(wanted: str, spellings: Sequence[str]) -> tuple[str, ...]:
    return wanted, *(spelling for spelling in spellings if spelling != wanted)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
