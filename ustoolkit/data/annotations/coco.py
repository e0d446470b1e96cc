"""Annotations as COCO's JSON for instances: one file for all images."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ustoolkit.data.annotations.outlines import edge_outlines
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.files import write_bytes, write_json


class Writer:
    """Writes images as they come, and the annotations at the end."""

    def __init__(self, folder: Path, classes: list[str], labels: list[str]) -> None:
        """Starts in an empty folder; `classes` names mask values, which become the categories' ids."""
        self.folder, self.classes = folder, classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: str, sample: Sample) -> None:
        """Writes images/`name`.png and keeps an annotation for each connected region."""
        write_bytes(self.folder / "images" / f"{name}.png", encode_png(sample.image))
        height, width = sample.image.shape[:2]
        image = {"id": len(self.images) + 1, "file_name": f"images/{name}.png", "height": height, "width": width}
        told = {"label": sample.label, "patient_id": sample.patient_id, "annotated": sample.mask is not None}
        self.images.append({**image, **told})
        if sample.mask is None:
            return
        for index in range(1, len(self.classes)):
            regions, count = ndimage.label(sample.mask == index, np.ones((3, 3)))
            for number in range(1, count + 1):
                self.annotations.append(self._annotation(image["id"], index, regions == number))

    def close(self) -> None:
        """Writes `annotations.json`."""
        categories = [
            {"id": index, "name": name, "supercategory": ""} for index, name in enumerate(self.classes) if index
        ]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        write_json(self.folder / "annotations.json", content)

    def _annotation(self, image_id: int, index: int, region: np.ndarray) -> dict[str, Any]:
        rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
        top, left = int(rows[0]), int(columns[0])
        return {
            "id": len(self.annotations) + 1,
            "image_id": image_id,
            "category_id": index,
            "segmentation": [[value for point in points for value in point] for points in edge_outlines(region)],
            "area": int(np.count_nonzero(region)),
            "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
            "iscrowd": 0,
        }
