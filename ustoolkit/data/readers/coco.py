"""COCO's JSON for instances: images, categories, and regions as outlines or run lengths."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ustoolkit.data.file_tree import find_files, locate
from ustoolkit.data.image_files import find_images, read_picture
from ustoolkit.data.readers.annotation_files import LARGEST_ANNOTATION_BYTES, first_bytes
from ustoolkit.data.readers.coco_file import LARGEST_SIDE, CocoFile, Region, id_text, open_coco
from ustoolkit.data.readers.coco_regions import region_shape
from ustoolkit.data.readers.csv_table import known
from ustoolkit.data.readers.entry import Entry, Refused, ShapesLoader
from ustoolkit.data.readers.image_names import ImageNames
from ustoolkit.data.readers.meaning import image_label, meaning
from ustoolkit.data.readers.official_split import part_attribute
from ustoolkit.data.sample import Sample
from ustoolkit.data.shapes import Shape
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_PATIENT = ("patient_id", "patient")
_STRUCTURE = frozenset(
    {"id", "file_name", "height", "width", "license", "coco_url", "flickr_url", "date_captured", "annotated", *_PATIENT}
)


def matches(root: Path) -> bool:
    """Whether a JSON file under the folder lists images and annotations as COCO does."""
    for path in find_files(root, {".json"}):
        content = first_bytes(path, LARGEST_ANNOTATION_BYTES)
        if b'"images"' in content and b'"annotations"' in content:
            return True
    return False


def class_names(root: Path, settings: DataSetSettings) -> Iterable[str]:
    """Names of the categories, in the order of the files."""
    names: dict[str, None] = {}
    for path in find_files(root, {".json"}):
        try:
            file = open_coco(path)
        except DataError:  # `read` says so
            continue
        if file is not None:
            names |= dict.fromkeys(name for name in file.names.values() if name not in file.headings)
    return names


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry an image that a JSON file lists; one without any annotation was looked at, and has no lesion.

    Files such as train.json and val.json are read together; what their names tell becomes the attribute 'split'. An
    image is looked for where its file_name says, relative to the JSON file, to the folder, or to images/ in either;
    else by its name anywhere. Regions that are boxes alone make no mask; a single one becomes the attribute
    'lesion_box', [x, y, width, height] in pixels, from 0.

    Args:
        root: the folder, searched with its sub-folders.
        settings: what the categories mean.
    Raises:
        DataError: a folder cannot be read. A JSON file that cannot be read, an image that is not there or is listed
            twice, and a category that is not there each become an entry that is refused when loaded.
    """
    names = ImageNames(root, find_images(root))
    listed: dict[Path, list[tuple[CocoFile, dict[str, Any]]]] = defaultdict(list)
    for path in find_files(root, {".json"}):
        place = path.relative_to(root).as_posix()
        try:
            file = open_coco(path)
        except DataError as problem:
            yield Entry(place, Refused(str(problem)))
            continue
        if file is None:
            continue
        if strangers := file.strangers():
            yield Entry(f"{place}, annotations", Refused(strangers))
        for number, image in enumerate(file.images, start=1):
            try:
                listed[_image_file(root, names, file, image, number)].append((file, image))
            except DataError as problem:
                yield Entry(f"{place}, image {number}", Refused(str(problem)))
    for path, places in listed.items():
        source_id = names.source_id(path)
        try:
            yield Entry(source_id, _loader(root, path, places, source_id, settings))
        except DataError as problem:
            yield Entry(source_id, Refused(str(problem)))


@dataclass(frozen=True, eq=False)
class CocoLoader:
    """Loads a sample from an image file and COCO's regions, which it decodes only then.

    Attributes:
        source_id, patient_id, attributes, label: as in `Sample`.
        image: the image file.
        regions: in the order of the file, a later one on top.
        settings: what the categories mean.
        drawn_on: height and width that the file tells; None where it does not.
        complete: whether no region means no lesion.
    """

    source_id: str
    image: Path
    regions: tuple[Region, ...]
    settings: DataSetSettings
    label: str
    patient_id: str
    attributes: tuple[tuple[str, Any], ...]
    drawn_on: tuple[int, int] | None
    complete: bool

    def __call__(self) -> Sample:
        """Reads the image and draws the regions.

        Raises:
            DataError: the image cannot be read or is not the one annotated, or a region is not valid.
        """
        outlined = any(region.segmentation is not None for region in self.regions)
        told = [] if outlined else [meaning(each.label, self.settings, each.place) for each in self.regions]
        boxes = [] if outlined else [region.box for region in self.regions]
        box = {"lesion_box": list(boxes[0])} if len(boxes) == 1 and boxes[0] else {}
        return ShapesLoader(
            source_id=self.source_id,
            image=self.image,
            shapes=self._shapes() if outlined else (),
            settings=self.settings,
            label=image_label([self.label, *(each.image for each in told if each is not None)]),
            patient_id=self.patient_id,
            attributes=(*self.attributes, *box.items()),
            drawn_on=self.drawn_on,
            complete=self.complete and not self.regions,
        )()

    def _shapes(self) -> tuple[Shape, ...]:
        height, width = self.drawn_on or read_picture(self.image).pixels.shape[:2]
        for region in self.regions:
            if region.segmentation is None:
                raise DataError(
                    f"{region.place}: expected an outline, as other regions of {self.image.name} have, found none. "
                    "Draw the region, or delete it."
                )
        return tuple(region_shape(each.segmentation, each.label, each.place, height, width) for each in self.regions)


def _image_file(root: Path, names: ImageNames, file: CocoFile, image: dict[str, Any], number: int) -> Path:
    place = f"{file.path.name}, image {number}"
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip() or not id_text(image.get("id")):
        raise DataError(f"{place}: expected an image with an 'id' and a 'file_name', found {sorted(image)}. Add them.")
    beside, part = file.path.parent, file.path.stem.rpartition("_")[2]
    below = ("", "images", part, f"images/{part}")  # of instances_val2017.json: val2017, images/val2017
    parts, problem = PureWindowsPath(name).parts, None
    for folder in dict.fromkeys(folder / inner for inner in below for folder in (beside, root)):
        try:
            path = locate(root, folder, name, place)
        except DataError as reason:
            problem = problem or reason
            continue
        if os.path.normpath(folder.joinpath(*parts)) == os.path.normpath(path):
            return path
    if ".." in parts and problem:
        raise problem
    found = names.find(name)
    if len(found) == 1:
        return found[0]
    several = f"'{name}' fits several images" if found else f"there is no image '{name}'"
    raise DataError(f"{place}: {several} under {root}. Add it, or write its path relative to the JSON file.")


def _loader(
    root: Path, path: Path, places: list[tuple[CocoFile, dict[str, Any]]], source_id: str, settings: DataSetSettings
) -> CocoLoader:
    if len(places) > 1:
        files = sorted({file.path.relative_to(root).as_posix() for file, _ in places})
        raise DataError(
            f"{path}: expected one list of its regions, found {len(places)}, in {', '.join(files)}. Leave all but "
            "one out."
        )
    file, image = places[0][0], _storable(places[0][1])
    label = image.get("label")
    told = known(label) if isinstance(label, str) else ""
    attributes = {name: value for name, value in image.items() if name not in _STRUCTURE}
    if told or label == "":
        del attributes["label"]
    folders = (*file.path.relative_to(root).parts[:-1], *path.relative_to(root).parts[:-1], file.path.stem)
    return CocoLoader(
        source_id=source_id,
        image=path,
        regions=file.regions(id_text(image["id"])),
        settings=settings,
        label=next((name for name in settings.labels if name.lower() == told.lower()), told),
        patient_id=next((patient for name in _PATIENT if (patient := known(id_text(image.get(name))))), ""),
        attributes=tuple((attributes | part_attribute(folders)).items()),
        drawn_on=_size(file, image),
        complete=file.annotated and image.get("annotated") is not False,
    )


def _size(file: CocoFile, image: dict[str, Any]) -> tuple[int, int] | None:
    sides: list[Any] = [image.get("height"), image.get("width")]
    if sides == [None, None]:
        return None
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int | float) or not 1 <= side < LARGEST_SIDE:
            raise DataError(
                f"{file.path}, {image['file_name']}: expected height and width in pixels, found {sides[0]!r} and "
                f"{sides[1]!r}. Correct them."
            )
    return int(sides[0]), int(sides[1])


def _storable(value: Any) -> Any:
    """A JSON value that can be written again: null for what is no number, '?' for what is no letter."""
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
