"""What a reader finds: an image that can be loaded later, in another process where need be."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.image_files import read_image, read_mask
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError


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

    def __call__(self) -> Sample:
        """Reads the files.

        Raises:
            DataError: a file cannot be read, or a mask is not of the image's size.
        """
        image = read_image(self.image)
        mask: np.ndarray | None = None
        for path in self.masks:
            part = read_mask(path, self.num_classes)
            if part.shape != image.shape[:2]:
                raise DataError(
                    f"{path}: the mask is {part.shape[1]} × {part.shape[0]} pixels, its image {self.image.name} is "
                    f"{image.shape[1]} × {image.shape[0]}. Draw the mask on this image, or leave both out."
                )
            mask = part if mask is None else np.maximum(mask, part)
        return Sample(
            source_id=self.source_id,
            image=image,
            mask=mask,
            label=self.label,
            patient_id=self.patient_id,
            spacing_mm=self.spacing_mm,
            filename=self.image.name,
            attributes=dict(self.attributes),
        )


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
