"""Annotations as a project of the VGG Image Annotator 2: one JSON file for all images."""

from pathlib import Path
from typing import Any

from ustoolkit.data.annotations.outlines import outlines
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.files import write_bytes, write_json


class Writer:
    """Writes images as they come, and the project at the end."""

    def __init__(self, folder: Path, classes: list[str], labels: list[str]) -> None:
        """Starts in an empty folder; `classes` names mask values, `labels` the choices for an image."""
        self.folder, self.classes, self.labels = folder, classes, labels
        self.images: dict[str, dict[str, Any]] = {}

    def add(self, name: str, sample: Sample) -> None:
        """Writes `name`.png and keeps its outlines for the project."""
        content = encode_png(sample.image)
        write_bytes(self.folder / f"{name}.png", content)
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": [x for x, _ in points],
                    "all_points_y": [y for _, y in points],
                },
                "region_attributes": {"class": self.classes[index]},
            }
            for index in range(1, len(self.classes))
            if sample.mask is not None
            for points in outlines(sample.mask == index)
        ]
        annotated = "no" if sample.mask is None else "yes"
        self.images[f"{name}.png{len(content)}"] = {
            "filename": f"{name}.png",
            "size": len(content),
            "regions": regions,
            "file_attributes": {"label": sample.label, "patient": sample.patient_id, "annotated": annotated},
        }

    def close(self) -> None:
        """Writes `via_project.json`, which VIA opens by 'Load'."""
        labels = {*self.labels, *(image["file_attributes"]["label"] for image in self.images.values())} - {""}
        project = {
            "_via_settings": {
                "ui": _UI,
                "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
                "project": {"name": "ustoolkit"},
            },
            "_via_img_metadata": self.images,
            "_via_attributes": {
                "region": {"class": _choice("class of the pixels", self.classes[1:])},
                "file": {"label": _choice("label of the image", sorted(labels)), "patient": _TEXT, "annotated": _YES},
            },
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(self.images),
        }
        write_json(self.folder / "via_project.json", project)


_TEXT = {"type": "text", "description": "images of one patient have one name", "default_value": ""}
_YES = {"type": "text", "description": "yes: an image without regions has no lesion", "default_value": "yes"}
_UI = {
    "annotation_editor_height": 25,
    "annotation_editor_fontsize": 0.8,
    "leftsidebar_width": 18,
    "image_grid": {
        "img_height": 80,
        "rshape_fill": "none",
        "rshape_fill_opacity": 0.3,
        "rshape_stroke": "yellow",
        "rshape_stroke_width": 2,
        "show_region_shape": True,
        "show_image_policy": "all",
    },
    "image": {
        "region_label": "class",
        "region_color": "class",
        "region_label_font": "10px Sans",
        "on_image_annotation_editor_placement": "NEAR_REGION",
    },
}


def _choice(description: str, names: list[str]) -> dict[str, Any]:
    return {"type": "dropdown", "description": description, "options": dict.fromkeys(names, ""), "default_options": {}}
