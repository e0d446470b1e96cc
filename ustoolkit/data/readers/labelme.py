"""Labelme's JSON files, one an image, and those of editors that write the same form, such as X-AnyLabeling."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.file_tree import check_inside, find_files
from ustoolkit.data.readers.annotation_files import (
    NamedImages,
    as_number,
    as_object,
    as_text,
    place_of,
    read_annotations,
    read_limited,
    shown,
    some_files,
    source_ids,
)
from ustoolkit.data.readers.entry import Entry, FileLoader, Refused, ShapesLoader
from ustoolkit.data.readers.labelme_shapes import decoded, numbered_shapes, shapes_of
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_PATIENT = ("patient_id", "patient", "patientId", "patientID", "case_id", "case", "subject_id", "subject")


def matches(root: Path) -> bool:
    """Whether one of a few JSON files under the folder has shapes and an image, as labelme writes them."""
    return any(_is_annotation(path) for path in some_files(root, {".json"}))


def class_names(root: Path, settings: DataSetSettings) -> Iterator[str]:
    """Yields the labels of all shapes; files that cannot be read are left to `read`."""
    for path in find_files(root, {".json"}):
        try:
            content = read_annotations(path)
            if _is_ours(content):
                for number, shape in numbered_shapes(content, path.name):
                    if word := as_text(shape.get("label"), "label", number):
                        yield word
        except DataError:
            continue


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry an image; JSON files of other kinds are left alone.

    An annotation without shapes says that there is no lesion, unless its `annotated` is false.

    The image is the one that imagePath names, else the one beside the JSON file that has its stem, else imageData. An
    image without annotation has no mask.

    Args:
        root: the folder, searched with its sub-folders.
        settings: `classes`, `shapes` and `ignore` say what labels mean; a flag that is set and one of `labels` gives
            the image its label.
    Raises:
        DataError: there is no annotation. One that is damaged, or without its image, and an image that is annotated
            twice, become entries that are refused when loaded.
    """
    images = NamedImages(root)
    annotations: dict[Path, list[Path]] = {}
    problems: dict[Path, str] = {}
    files = find_files(root, {".json"})
    for path in files:
        try:
            content = read_annotations(path)
            if _is_ours(content):
                annotations.setdefault(_image_of(content, path, images), []).append(path)
        except DataError as problem:
            problems[path] = str(problem)
    if not annotations and not problems:
        raise DataError(f"{root}: expected JSON files that labelme wrote, found none. Check the path, or --format.")
    refused: dict[Path, str] = {}
    for path, reason in problems.items():
        image = images.beside(path)
        refused[path if image is None or image in annotations else image] = reason
    for image, named_by in annotations.items():
        if len(named_by) > 1:
            places = " and ".join(place_of(path, root) for path in named_by)
            refused[image] = f"{place_of(image, root)}: annotated twice, in {places}. Delete all but one."
    exports = {path.with_name(f"{path.stem}_json") for path in files}  # what labelme_export_json makes of a file
    others = [path for path in images.without_masks() if path.parent not in exports]
    ids = source_ids(sorted({*others, *annotations, *refused}), root)
    for image, source_id in ids.items():
        if image in refused:
            yield Entry(source_id, Refused(refused[image]))
        elif image in annotations:
            (path,) = annotations[image]
            yield Entry(source_id, LabelmeLoader(source_id, image, path, place_of(path, root), settings))
        else:
            yield Entry(source_id, FileLoader(source_id, image, (), len(settings.classes)))


@dataclass(frozen=True)
class LabelmeLoader:
    """Loads a sample from an image and its JSON file, which is read again so that a listing stays small.

    Attributes:
        source_id: as in `Sample`.
        image: the image, or the JSON file where that holds it.
        annotation: the JSON file.
        place: its name for messages.
        settings: what labels mean.
    """

    source_id: str
    image: Path
    annotation: Path
    place: str
    settings: DataSetSettings

    def __call__(self) -> Sample:
        """Reads both files.

        Raises:
            DataError: one cannot be read, they do not fit each other, or a shape is not valid.
        """
        content = as_object(read_annotations(self.annotation), "annotation", self.place)
        label, others = _flags(content.get("flags"), self.settings, self.place)
        patient = next((content[name] for name in _PATIENT if content.get(name) is not None), None)
        loader = ShapesLoader(
            source_id=self.source_id,
            image=self.image,
            shapes=shapes_of(content, self.place, self.settings),
            settings=self.settings,
            label=label,
            patient_id=as_text(patient, "patient", self.place),
            attributes=(("flags", others),) if others else (),
            drawn_on=_size(content, self.place),
            content=_Embedded(content, self.place) if self.image == self.annotation else None,
            complete=content.get("annotated") is not False,
        )
        return loader()


@dataclass(frozen=True)
class _Embedded:
    """The image's bytes within a JSON file."""

    content: dict[str, Any]
    place: str

    def __call__(self) -> bytes:
        return decoded(self.content.get("imageData"), "imageData", self.place)


def _is_annotation(path: Path) -> bool:
    """Parses a file only where the words of an annotation stand somewhere in it, however large the rest."""
    try:
        content = read_limited(path)
        if b'"shapes"' not in content or (b'"imagePath"' not in content and b'"imageData"' not in content):
            return False
        content = read_annotations(path)
    except DataError:
        return False
    return _is_ours(content) and isinstance(content.get("shapes"), list)


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and not {"shapes", "imagePath", "imageData"}.isdisjoint(content)


def _image_of(content: dict[str, Any], path: Path, images: NamedImages) -> Path:
    """The image of an annotation; the annotation itself where that alone holds it."""
    place = place_of(path, images.root)
    name = as_text(content.get("imagePath"), "imagePath", place)
    problem = DataError(f"{place}: expected imagePath to name an image, found nothing. Correct it.")
    if name:
        check_inside(images.root, path.parent, name, place)
        try:
            return images.find(path.parent, name, place)
        except DataError as missing:
            problem = missing
    beside = images.beside(path)
    if beside:
        return beside
    if content.get("imageData"):
        return path
    raise problem


def _flags(flags: Any, settings: DataSetSettings, place: str) -> tuple[str, list[str]]:
    """The image's label, by the flag that is set; and the other flags that are."""
    told = as_object(flags, "flags", place)
    for name, value in told.items():
        if not isinstance(value, bool):
            raise DataError(
                f"{place}: expected flag '{name[:60]}' to be true or false, found {shown(value)}. Correct it."
            )
    is_set = {name.strip().lower(): name for name, value in told.items() if value}
    labels = [label for label in settings.labels if label.strip().lower() in is_set]
    if len(labels) > 1:
        raise DataError(f"{place}: expected one label for the image, found flags {', '.join(labels)}. Set one of them.")
    words = {label.strip().lower() for label in labels}
    return "".join(labels), sorted(name for word, name in is_set.items() if word not in words)


def _size(content: dict[str, Any], place: str) -> tuple[int, int] | None:
    """Height and width of the picture that was drawn on; None where not told."""
    told = [content.get(name) for name in ("imageHeight", "imageWidth")]
    if not all(told):
        return None
    height, width = (as_number(value, "size of the image", place) for value in told)
    return round(height), round(width)
