"""One JSON file in COCO's form: its images, its categories, and the annotations of each image."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.readers.annotation_files import read_annotations
from ustoolkit.errors import DataError

LARGEST_SIDE = 1e9  # pixels; whole numbers in JSON have no limit of their own
_OF_REGIONS = frozenset({"category_id", "segmentation", "bbox"})
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """One annotation, not yet drawn.

    Attributes:
        label: the category's name.
        place: for messages: 'train.json, annotation 7'.
        segmentation: as in the file; None where there is only a box.
        box: x, y, width, height in pixels, from 0, or None.
    """

    label: str
    place: str
    segmentation: Any
    box: Box | None


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A JSON file whose lists hold objects, which are checked when asked for.

    Attributes:
        path: the file.
        images: as in the file.
        annotated: whether it has a list of annotations, so that an image without any has no lesion.
        names: of the categories, by id; none where several have the id.
        headings: names of categories that only head others and that no annotation has, as Roboflow writes.
        annotations: number and content, by the id of their image.
        repeated: ids that several images have.
    """

    path: Path
    images: tuple[dict[str, Any], ...]
    annotated: bool
    names: dict[str, str]
    headings: frozenset[str]
    annotations: dict[str, list[tuple[int, dict[str, Any]]]]
    repeated: frozenset[str]

    def regions(self, image_id: str) -> tuple[Region, ...]:
        """The annotations of an image.

        Raises:
            DataError: the id is that of several images, or an annotation's category is not in the file.
        """
        if image_id in self.repeated:
            raise DataError(
                f"{self.path}: several images have the id {image_id}, so that nothing tells whose the annotations are. "
                "Correct the ids."
            )
        return tuple(self._region(number, content) for number, content in self.annotations.get(image_id, ()))

    def strangers(self) -> str:
        """What is wrong with annotations of images that the file does not list; '' where there are none."""
        listed = {id_text(image.get("id")) for image in self.images} - {""}
        ids = [image_id for image_id in self.annotations if image_id not in listed]
        if not ids:
            return ""
        count = sum(len(self.annotations[image_id]) for image_id in ids)
        return (
            f"{self.path}: {count} annotations belong to no image that it lists (image_id {ids[0] or 'missing'}"
            f"{', …' if len(ids) > 1 else ''}). Add the images, or delete the annotations."
        )

    def _region(self, number: int, content: dict[str, Any]) -> Region:
        place = f"annotation {id_text(content.get('id')) or f'number {number}'}"
        category = id_text(content.get("category_id"))
        if category not in self.names:
            raise DataError(
                f"{self.path}, {place}: expected the id of one category, found {content.get('category_id')!r}; there "
                f"are {', '.join(self.names) or 'none'}. Correct category_id, or add the category."
            )
        segmentation = content.get("segmentation") or None
        return Region(self.names[category], f"{self.path.name}, {place}", segmentation, _box(content.get("bbox")))


def open_coco(path: Path) -> CocoFile | None:
    """Reads a file; None for JSON of another kind, such as COCO's captions.

    Raises:
        DataError: no JSON, or a list of it holds what is no object.
    """
    content = read_annotations(path)
    if not isinstance(content, dict) or "images" not in content or not {"annotations", "categories"} & set(content):
        return None
    for name in ("images", "categories", "annotations"):
        items = content.get(name, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{path}: expected a list of objects under '{name}', found others. Export the file again.")
    regions, categories = content.get("annotations", []), content.get("categories", [])
    if regions and not any(_OF_REGIONS & set(region) for region in regions):
        return None
    annotations: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, region in enumerate(regions, start=1):
        annotations[id_text(region.get("image_id"))].append((number, region))
    named = {id_text(item.get("id")): item["name"] for item in categories if isinstance(item.get("name"), str)}
    twice = _repeated(categories)
    heads = {str(item.get("supercategory")) for item in categories}
    used = {named.get(id_text(region.get("category_id"))) for region in regions}
    return CocoFile(
        path=path,
        images=tuple(content["images"]),
        annotated="annotations" in content,
        names={key: name for key, name in named.items() if key and key not in twice},
        headings=frozenset(name for name in named.values() if name in heads and name not in used),
        annotations=dict(annotations),
        repeated=_repeated(content["images"]),
    )


def id_text(value: Any) -> str:
    """An id as text, so that 7, 7.0 and '7' are one; '' for what is no id."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else ""
    return str(value).strip()


def _repeated(items: list[dict[str, Any]]) -> frozenset[str]:
    counts = Counter(id_text(item.get("id")) for item in items)
    return frozenset(key for key, count in counts.items() if count > 1)


def _box(box: Any) -> Box | None:
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        return None
    if any(abs(value) > LARGEST_SIDE for value in box):
        return None
    x, y, width, height = (float(value) for value in box)
    return (x, y, width, height) if math.isfinite(x + y + width + height) and width > 0 and height > 0 else None
