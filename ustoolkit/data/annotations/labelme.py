"""Annotations as labelme 5 writes them: a JSON file beside each image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ustoolkit.data.annotations.outlines import outlines
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.files import write_bytes, write_json

Points = Sequence[Sequence[float]]


class Writer:
    """Writes one sample after the other into a folder."""

    def __init__(self, folder: Path, classes: list[str], labels: list[str]) -> None:
        """Starts in an empty folder; `classes` names mask values, `labels` the flags of an image."""
        self.folder, self.classes, self.labels = folder, classes, labels

    def add(self, name: str, sample: Sample) -> None:
        """Writes `name`.png and `name`.json."""
        write_bytes(self.folder / f"{name}.png", encode_png(sample.image))
        polygons = [
            (self.classes[index], points)
            for index in range(1, len(self.classes))
            if sample.mask is not None
            for points in outlines(sample.mask == index)
        ]
        content = labelme_content(polygons, f"{name}.png", *sample.image.shape[:2])
        content["flags"] = {label: label == sample.label for label in sorted({*self.labels, sample.label} - {""})}
        about = {"patient_id": sample.patient_id, "annotated": sample.mask is not None}
        write_json(self.folder / f"{name}.json", {**content, **about})

    def close(self) -> None:
        """Nothing is left to write."""


def labelme_content(polygons: Iterable[tuple[str, Points]], image: str, height: int, width: int) -> dict[str, Any]:
    """What a labelme file holds.

    Args:
        polygons: a class and its corners (x, y), pixels, for each region.
        image: file name of the image, which lies beside.
        height, width: of the image, pixels.
    Returns:
        JSON-serialisable, without flags and without the image itself.
    """
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [_shape(label, points) for label, points in polygons],
        "imagePath": image,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shape(label: str, points: Points) -> dict[str, object]:
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
