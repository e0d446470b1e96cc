"""What a reader finds: an image that can be loaded later, in another process where need be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.image_files import Picture, read_mask, read_picture, turn_upright
from ustoolkit.data.mask_values import Colours
from ustoolkit.data.readers.meaning import class_index, image_label, meaning
from ustoolkit.data.sample import Sample
from ustoolkit.data.shapes import Shape, check_shape, fits, paint, turn_shape
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings


@dataclass(frozen=True)
class Entry:
    """One image of a data set, not yet read.

    Attributes:
        source_id: unique within the data set; records are ordered by it.
        load: reads the files and returns the `Sample`, or raises `DataError`; picklable.
    """

    source_id: str
    load: Callable[[], Sample]


@dataclass(frozen=True)
class FileLoader:
    """Loads a sample from an image file and its mask files; several masks are merged, the higher class on top."""

    source_id: str
    image: Path
    masks: tuple[Path, ...]
    num_classes: int
    label: str = ""
    patient_id: str = ""
    spacing_mm: tuple[float, float] | None = None
    attributes: tuple[tuple[str, Any], ...] = ()
    colours: Colours = ()

    def __call__(self) -> Sample:
        """Reads the files.

        Raises:
            DataError: a file cannot be read, or a mask is not of the image's size.
        """
        picture = read_picture(self.image)
        return Sample(
            source_id=self.source_id,
            image=picture.pixels,
            mask=merge_masks(picture, self.image.name, self.masks, self.num_classes, self.colours),
            label=self.label,
            patient_id=self.patient_id,
            spacing_mm=self.spacing_mm,
            filename=self.image.name,
            attributes=dict(self.attributes) | turned(picture),
        )


@dataclass(frozen=True, eq=False)
class ShapesLoader:
    """Loads a sample from an image file and what was drawn on it.

    Attributes:
        source_id, patient_id, attributes, spacing_mm: as in `Sample`.
        image: the image file, or the annotation that holds it.
        shapes: in the order drawn, a later one on top; each label has a meaning.
        settings: `classes`, `shapes`, and how wide lines are drawn.
        label: of the image, where something other than its shapes tells.
        drawn_on: height and width of the picture that the annotator saw; None where not told.
        content: reads the image's bytes out of the annotation (picklable); None where `image` is the image itself.
        complete: whether an annotation without any shape says that there is no lesion: an empty mask, not none.
    """

    source_id: str
    image: Path
    shapes: tuple[Shape, ...]
    settings: DataSetSettings
    label: str = ""
    patient_id: str = ""
    spacing_mm: tuple[float, float] | None = None
    attributes: tuple[tuple[str, Any], ...] = ()
    drawn_on: tuple[int, int] | None = None
    content: Callable[[], bytes] | None = None
    complete: bool = False

    def __call__(self) -> Sample:
        """Reads the image and draws the mask; without shapes there is none, or an empty one.

        Raises:
            DataError: the image cannot be read or is not the one drawn on, or a shape is not valid.
        """
        picture = read_picture(self.image, self.content() if self.content else None)
        height, width = picture.pixels.shape[:2]
        meanings = [(shape, meaning(shape.label, self.settings, shape.place)) for shape in self.shapes]
        kept = [(shape, told) for shape, told in meanings if told is not None]
        on_stored = self._drawn_on_stored(picture, [shape for shape, _ in kept])
        drawn, labels = [], [self.label]
        for shape, told in kept:
            check_shape(shape, *(picture.stored_size if on_stored else (height, width)))
            labels.append(told.image)
            index = class_index(told, self.settings)
            if index is not None:
                upright = turn_shape(shape, picture.orientation, picture.stored_size) if on_stored else shape
                drawn.append((upright, index))
        annotated = bool(drawn) or (self.complete and not self.shapes)
        mask = paint(drawn, height, width, self.settings.line_width, self.settings.point_radius) if annotated else None
        found = {label for label in labels if label}
        several = {"image_labels": sorted(found)} if len(found) > 1 else {}
        return Sample(
            source_id=self.source_id,
            image=picture.pixels,
            mask=mask,
            label=image_label(labels),
            patient_id=self.patient_id,
            spacing_mm=self.spacing_mm,
            filename=self.image.name,
            attributes=dict(self.attributes) | turned(picture) | several,
        )

    def _drawn_on_stored(self, picture: Picture, shapes: Sequence[Shape]) -> bool:
        """Whether coordinates count on the stored pixels of a picture that EXIF turns.

        Annotators show a picture upright, so only a told size, or shapes that lie outside else, say otherwise. Where
        turning keeps the size, nothing does.
        """
        upright, stored = picture.pixels.shape[:2], picture.stored_size
        if self.drawn_on is not None and self.drawn_on not in (upright, stored):
            raise DataError(
                f"{self.image}: the picture is {upright[1]} × {upright[0]} pixels, its annotation was drawn on one of "
                f"{self.drawn_on[1]} × {self.drawn_on[0]}. Annotate this picture, or put the annotated one here."
            )
        if upright == stored:
            return False
        if self.drawn_on is not None:
            return self.drawn_on == stored
        return not all(fits(shape, *upright) for shape in shapes) and all(fits(shape, *stored) for shape in shapes)


def merge_masks(
    picture: Picture, image: str, masks: Sequence[Path], num_classes: int, colours: Colours = ()
) -> np.ndarray | None:
    """Masks of a picture as one, the higher class on top; None for no masks.

    A mask of the size that a turned picture was stored with is turned too.

    Args:
        picture: what the masks belong to.
        image: its name, for messages.
        masks: files.
        num_classes: how many classes there are.
        colours: the class of each colour, where masks are coloured.
    Returns:
        uint8 (height, width), class indices.
    Raises:
        DataError: a mask cannot be read, or is not of the picture's size.
    """
    merged: np.ndarray | None = None
    size = picture.pixels.shape[:2]
    for path in masks:
        part = read_mask(path, num_classes, colours)
        if part.shape != size and part.shape == picture.stored_size:
            part = turn_upright(part, picture.orientation)
        if part.shape != size:
            raise DataError(
                f"{path}: the mask is {part.shape[1]} × {part.shape[0]} pixels, its image {image} is "
                f"{size[1]} × {size[0]}. Draw the mask on this image, or leave both out."
            )
        merged = part if merged is None else np.maximum(merged, part)
    return merged


def turned(picture: Picture) -> dict[str, Any]:
    """The attribute that says that EXIF turned a picture; none where it did not."""
    return {"exif_orientation": picture.orientation} if picture.orientation != 1 else {}


@dataclass(frozen=True)
class Refused:
    """Stands for an image that the reader knows to be unusable; loading it says why."""

    message: str

    def __call__(self) -> Sample:
        """Raises DataError with the reader's message."""
        raise DataError(self.message)


@dataclass(frozen=True)
class WithPatient:
    """Loads a sample and gives it its patient: as told, else as the source knew, else its own name.

    Attributes:
        load: reads the sample.
        told: the patient by the user's expression, '' where there is none.
        source_id: stands in where nobody knows.
    """

    load: Callable[[], Sample]
    told: str
    source_id: str

    def __call__(self) -> Sample:
        """Loads."""
        sample = self.load()
        return replace(sample, patient_id=self.told or sample.patient_id or self.source_id)
