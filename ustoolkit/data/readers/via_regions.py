"""What VIA says of one image: its regions as shapes, their classes, and the attributes of the file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.readers.annotation_files import as_number, as_object, as_text, shown
from ustoolkit.data.shapes import Point, Shape, ellipse_axes
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_CLASS = ("class", "label", "class_name", "type", "name", "category", "lesion", "pathology", "diagnosis")
_LABEL = ("label", "class", "pathology", "diagnosis")
_PATIENT = ("patient", "patient_id", "patientid", "case", "case_id", "subject", "subject_id")


@dataclass(frozen=True)
class Record:
    """What one file says of one image, not yet checked: any of it may be of any type."""

    name: str
    file: Path
    place: str
    regions: Any
    attributes: Any


def class_attribute(records: Iterable[Record], settings: DataSetSettings, root: Path) -> str:
    """The attribute that names a region's class.

    Args:
        records: of the whole data set.
        settings: `region_attribute` says; else it is the only one there is, or the one called class, label, type, …
        root: for the message.
    Returns:
        its name; '' where regions have none.
    Raises:
        DataError: no region has the one asked for, or there are several.
    """
    found: dict[str, None] = {}
    for record in records:
        try:
            for place, region in _regions(record):
                found.update((name, None) for name, value in _attributes(region, place).items() if value)
        except DataError:
            continue  # said when the image is loaded
    wanted = settings.region_attribute
    if wanted and wanted not in found and found:
        raise DataError(f"{root}: no region has an attribute '{wanted}'; there are {_few(found)}. Correct it.")
    if wanted or not found:
        return wanted
    called = _called(found, _CLASS)
    if not called and len(found) > 1:
        raise DataError(
            f"{root}: regions have several attributes: {_few(found)}. Say which one names the class, under "
            "region_attribute in the data set's description."
        )
    return called or next(iter(found))


def labels_of(record: Record, attribute: str) -> Iterator[str]:
    """The class of each region; '' where it has none."""
    for place, region in _regions(record):
        yield _label(region, attribute, place)


def shapes_of(record: Record, attribute: str) -> tuple[Shape, ...]:
    """The regions of an image, in the order drawn.

    Args:
        record: as read.
        attribute: which one names the class.
    Raises:
        DataError: a region is not what VIA writes, or of an unknown shape.
    """
    shapes = []
    for place, region in _regions(record):
        label = _label(region, attribute, place)
        told = as_object(region.get("shape_attributes"), "shape_attributes", place)
        name = as_text(told.get("name"), "shape", place)
        if name not in _SHAPES:
            raise DataError(
                f"{place}: expected a shape of {', '.join(_SHAPES)}, found {name[:60]!r}. Draw it as one of these, or "
                "delete it."
            )
        kind, points_of = _SHAPES[name]
        shapes.append(Shape(label, place, kind, points_of(told, place)))
    return tuple(shapes)


def file_attributes(record: Record, settings: DataSetSettings) -> tuple[str, str, tuple[tuple[str, Any], ...]]:
    """What is said of the image as a whole.

    Args:
        record: as read.
        settings: `labels`, a value of which is the image's label under any name.
    Returns:
        the label, '' for none; the patient, '' for none; the other attributes.
    Raises:
        DataError: several labels.
    """
    told = as_object(record.attributes, "file_attributes", record.place)
    words = {name: found for name, value in told.items() if (found := _words(value, name[:60], record.place))}
    known = {label.strip().lower(): label for label in settings.labels}
    labels = {name: known[word.lower()] for name, found in words.items() for word in found if word.lower() in known}
    by_name = _called(words, _LABEL)
    if not labels and by_name:
        labels[by_name] = words[by_name][0]
    if len(set(labels.values())) > 1:
        raise DataError(
            f"{record.place}: expected one label for the image, found {_few(labels.values())}. Correct the attributes."
        )
    by_patient = _called(words, _PATIENT)
    others = {name: found[0] if len(found) == 1 else found for name, found in words.items()}
    rest = tuple((name, value) for name, value in others.items() if name not in {*labels, by_patient})
    return next(iter(labels.values()), ""), words[by_patient][0] if by_patient else "", rest


def _called(names: Iterable[str], spellings: tuple[str, ...]) -> str:
    """The first of the names by the spellings' order, whatever their case; '' where there is none."""
    by_spelling = {name.strip().lower().replace(" ", "_"): name for name in reversed(list(names))}
    return next((by_spelling[spelling] for spelling in spellings if spelling in by_spelling), "")


def _regions(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each region with its place, counted from 1: version 1 has them in an object, version 2 in a list."""
    told = record.regions
    if not isinstance(told, list | dict):
        raise DataError(f"{record.place}: expected regions, found {shown(told)}. Save the annotations again.")
    regions = told if isinstance(told, list) else told.values()
    for number, region in enumerate(regions, start=1):
        yield f"{record.place}, region {number}", as_object(region, "region", f"{record.place}, region {number}")


def _attributes(region: dict[str, Any], place: str) -> dict[str, Any]:
    return as_object(region.get("region_attributes"), "region_attributes", place)


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(name[:60] for name in names[:8]) + (", …" if len(names) > 8 else "")


def _words(value: Any, what: str, place: str) -> list[str]:
    """An attribute's value, or the check boxes that are ticked."""
    if isinstance(value, dict):
        return [name.strip() for name, tick in value.items() if tick is True]
    return [word for word in (as_text(value, what, place),) if word]


def _label(region: dict[str, Any], attribute: str, place: str) -> str:
    words = _words(_attributes(region, place).get(attribute), attribute, place)
    if len(words) > 1:
        raise DataError(f"{place}: expected one ticked {attribute}, found {_few(words)}. Tick one of them.")
    return "".join(words)


def _vertices(told: dict[str, Any], place: str) -> tuple[Point, ...]:
    xs, ys = told.get("all_points_x"), told.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise DataError(
            f"{place}: expected two lists of one length as all_points_x and all_points_y, found {shown(xs)} and "
            f"{shown(ys)}. Draw it again, or delete it."
        )
    return tuple((as_number(x, "x", place), as_number(y, "y", place)) for x, y in zip(xs, ys, strict=True))


def _corners(told: dict[str, Any], place: str) -> tuple[Point, ...]:
    x, y = (as_number(told.get(name), name, place) for name in ("x", "y"))
    return (x, y), (x + _length(told, "width", place), y + _length(told, "height", place))


def _circle(told: dict[str, Any], place: str) -> tuple[Point, ...]:
    ((x, y),) = _centre(told, place)
    return (x, y), (x + _length(told, "r", place), y)


def _ellipse(told: dict[str, Any], place: str) -> tuple[Point, ...]:
    (centre,) = _centre(told, place)
    angle = as_number(told.get("theta", 0), "theta", place)
    return centre, *ellipse_axes(centre, _length(told, "rx", place), _length(told, "ry", place), angle)


def _centre(told: dict[str, Any], place: str) -> tuple[Point, ...]:
    return ((as_number(told.get("cx"), "cx", place), as_number(told.get("cy"), "cy", place)),)


def _length(told: dict[str, Any], name: str, place: str) -> float:
    length = as_number(told.get(name), name, place)
    if length < 0:
        raise DataError(f"{place}: expected {name} to be 0 or more, found {length:g}. Draw it again, or delete it.")
    return length


_SHAPES: dict[str, tuple[str, Callable[[dict[str, Any], str], tuple[Point, ...]]]] = {
    "polygon": ("polygon", _vertices),
    "polyline": ("line", _vertices),
    "rect": ("rectangle", _corners),
    "circle": ("circle", _circle),
    "ellipse": ("ellipse", _ellipse),
    "point": ("point", _centre),
}
