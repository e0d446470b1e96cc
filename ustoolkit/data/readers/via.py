"""Annotations of the VGG Image Annotator, versions 1 and 2: its projects, and its exports as JSON and CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ustoolkit.data.file_tree import find_files
from ustoolkit.data.readers.annotation_files import (
    LARGEST_ANNOTATION_BYTES,
    NamedImages,
    as_object,
    as_text,
    first_bytes,
    parse_json,
    place_of,
    read_annotations,
    read_limited,
    some_files,
    source_ids,
)
from ustoolkit.data.readers.entry import Entry, FileLoader, Refused, ShapesLoader
from ustoolkit.data.readers.via_regions import Record, class_attribute, file_attributes, labels_of, shapes_of
from ustoolkit.data.sample import Sample
from ustoolkit.data.shapes import Shape
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_SUFFIXES = frozenset({".json", ".csv"})


def matches(root: Path) -> bool:
    """Whether one of a few JSON or CSV files under the folder is VIA's."""
    return any(_is_annotation(path) for path in some_files(root, _SUFFIXES))


def class_names(root: Path, settings: DataSetSettings) -> Iterator[str]:
    """Yields the values of the attribute that names a region's class; what cannot be read is left to `read`."""
    records, _ = _read_records(root)
    attribute = class_attribute(records, settings, root)
    for record in records:
        try:
            yield from filter(None, labels_of(record, attribute))
        except DataError:
            continue


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry an image; one without regions, or that no annotation names, has no mask.

    Images are found by `filename` alone, since their size changes when they are saved again. Several files may say the
    same of an image. A file attribute called label or class, or whose value is one of `labels`, gives the image its
    label; one called patient, case or subject its patient. A rectangle holds both its edges, as labelme's does.

    Args:
        root: the folder, searched with its sub-folders.
        settings: `region_attribute` names the class of a region; where it is empty, the only one, or the one called
            class, label, type or name is taken. A region without it is the lesion.
    Raises:
        DataError: there is no annotation, none can be read, or it is not clear which attribute names the class. An
            image that is missing, or annotated in two ways, becomes an entry that is refused when loaded.
    """
    records, problems = _read_records(root)
    if not records:
        message = f"{root}: expected a JSON or CSV file that VIA saved, found none. Check the path, or --format."
        raise DataError(next(iter(problems.values()), message))
    attribute = class_attribute(records, settings, root)
    images = NamedImages(root)
    annotations: dict[Path, list[Record]] = {}
    for record in records:
        try:
            path = images.find(record.file.parent, _last_of_address(record.name), record.place)
            annotations.setdefault(path, []).append(record)
        except DataError as problem:
            problems[record.place] = str(problem)
    for place, reason in problems.items():
        yield Entry(place, Refused(reason))
    ids = source_ids(sorted({*images.without_masks(), *annotations}), root)
    for image, source_id in ids.items():
        load: Callable[[], Sample] = FileLoader(source_id, image, (), len(settings.classes))
        if image in annotations:
            try:
                load = _loader(source_id, image, annotations[image], attribute, settings)
            except DataError as problem:
                load = Refused(str(problem))
        yield Entry(source_id, load)


def _is_annotation(path: Path) -> bool:
    """Parses a file only where the words of an annotation stand somewhere in it."""
    try:
        if path.suffix.lower() == ".csv":
            return _is_table(path)
        content = read_limited(path)
        if b'"regions"' not in content or b'"filename"' not in content:
            return False
        return _images(read_annotations(path)) is not None
    except DataError:
        return False


def _is_table(path: Path) -> bool:
    header = first_bytes(path).partition(b"\n")[0].decode("utf-8-sig", "replace")
    return {"filename", "region_shape_attributes"} <= set(re.split(r"[^a-z_]+", header))


def _images(content: Any) -> dict[str, Any] | None:
    """What a JSON file says of each image; None where it is not VIA's."""
    if not isinstance(content, dict):
        return None
    if "_via_img_metadata" in content:
        told = content["_via_img_metadata"]
        return told if isinstance(told, dict) else {"_via_img_metadata": told}
    told = [value for value in content.values() if isinstance(value, dict)]
    return content if any("filename" in value and "regions" in value for value in told) else None


def _read_records(root: Path) -> tuple[list[Record], dict[str, str]]:
    """What all annotation files say, and what is wrong with those that cannot be read."""
    records, problems = [], {}
    for path in find_files(root, _SUFFIXES):
        place = place_of(path, root)
        try:
            if path.suffix.lower() == ".csv":
                images = _table_images(path) if _is_table(path) else None
            else:
                images = _images(read_annotations(path))
            for number, told in enumerate((images or {}).values(), start=1):
                try:
                    records.append(_record(told, path, place, number))
                except DataError as problem:
                    problems[f"{place}, image {number}"] = str(problem)
        except DataError as problem:
            if _mentions_regions(path):
                problems[place] = str(problem)
    return records, problems


def _mentions_regions(path: Path) -> bool:
    """Whether a file that cannot be read was to be VIA's."""
    return any(word in first_bytes(path, 100_000) for word in (b"shape_attributes", b"_via_"))


def _record(told: Any, path: Path, place: str, number: int) -> Record:
    image = as_object(told, "image", f"{place}, image {number}")
    name = as_text(image.get("filename"), "filename", f"{place}, image {number}")
    if not name:
        raise DataError(f"{place}, image {number}: expected a filename, found none. Save the annotations again.")
    return Record(name, path, f"{place}, {name[:100]}", image.get("regions"), image.get("file_attributes"))


def _table_images(path: Path) -> dict[str, Any]:
    """The rows of a CSV export in the form of a JSON export."""
    try:
        text = read_limited(path).decode("utf-8-sig").lstrip("#")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        usual = csv.field_size_limit(LARGEST_ANNOTATION_BYTES)
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
        finally:
            csv.field_size_limit(usual)
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path}: expected a CSV file that VIA saved ({problem}). Export it again.") from None
    images: dict[str, Any] = {}
    for row in rows:
        name = row.get("filename") or ""
        attributes = _cell(row.get("file_attributes"))
        image = images.setdefault(name, {"filename": name, "file_attributes": attributes, "regions": []})
        shape = _cell(row.get("region_shape_attributes"))
        if shape or row.get("region_count") not in ("0", "", None):
            told = {"shape_attributes": shape, "region_attributes": _cell(row.get("region_attributes"))}
            image["regions"].append(told)
    return images


def _cell(text: str | None) -> Any:
    """The value of a cell in JSON; the text itself where it is none, to be answered by its place."""
    try:
        return parse_json((text or "{}").encode())
    except ValueError:
        return text


def _loader(
    source_id: str, image: Path, records: list[Record], attribute: str, settings: DataSetSettings
) -> ShapesLoader:
    """The loader of an image of which all records, but those without regions, say the same."""
    drawn = [(record, shapes_of(record, attribute)) for record in records]
    drawn = [pair for pair in drawn if pair[1]] or drawn
    record, shapes = drawn[0]
    for other, others in drawn[1:]:
        if _outline(others) != _outline(shapes):
            raise DataError(
                f"{record.place}: {_place(other, record)} has other regions of this image. Delete one of them."
            )
    label, patient, attributes = file_attributes(record, settings)
    looked_at = dict(attributes).get("annotated") == "yes"  # then no region means no lesion
    kept = tuple(pair for pair in attributes if pair[0] != "annotated")
    return ShapesLoader(source_id, image, shapes, settings, label, patient, attributes=kept, complete=looked_at)


def _place(other: Record, record: Record) -> str:
    return "the same file" if other.file == record.file else other.file.name


def _outline(shapes: tuple[Shape, ...]) -> list[tuple[Any, ...]]:
    return [(shape.kind, shape.points, shape.label) for shape in shapes]


def _last_of_address(name: str) -> str:
    """The path of a web address; any other name as it is."""
    return unquote(urlsplit(name).path) if "://" in name else name
