"""Annotations as labelme 5 writes them: a JSON file beside each image."""

from pathlib import Path

from ustoolkit.data.annotations.outlines import outlines
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.files import write_bytes, write_json


class Writer:
    """Writes one sample after the other into a folder."""

    def __init__(self, folder: Path, classes: list[str], labels: list[str]) -> None:
        """Starts in an empty folder; `classes` names mask values, `labels` the flags of an image."""
        self.folder, self.classes, self.labels = folder, classes, labels

    def add(self, name: str, sample: Sample) -> None:
        """Writes `name`.png and `name`.json."""
        write_bytes(self.folder / f"{name}.png", encode_png(sample.image))
        height, width = sample.image.shape[:2]
        content = {
            "version": "5.4.1",
            "flags": {label: label == sample.label for label in sorted({*self.labels, sample.label} - {""})},
            "shapes": [
                _shape(self.classes[index], points)
                for index in range(1, len(self.classes))
                if sample.mask is not None
                for points in outlines(sample.mask == index)
            ],
            "imagePath": f"{name}.png",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
            "patient_id": sample.patient_id,
            "annotated": sample.mask is not None,
        }
        write_json(self.folder / f"{name}.json", content)

    def close(self) -> None:
        """Nothing is left to write."""


def _shape(label: str, points: tuple[tuple[float, float], ...]) -> dict[str, object]:
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
