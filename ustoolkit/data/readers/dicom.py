"""DICOM ultrasound: stills and clips, with their scale and field of view, and without anything that names a patient."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ustoolkit.data.image_files import Picture
from ustoolkit.data.mask_values import Colours, colour_table
from ustoolkit.data.readers.annotation_files import first_bytes
from ustoolkit.data.readers.clip_frames import (
    FileMasks,
    chosen_frames,
    folder_label,
    frame_id,
    masks_of_files,
    unique_names,
)
from ustoolkit.data.readers.dicom_checks import check_image
from ustoolkit.data.readers.dicom_files import find_dicoms, frame_rate, open_dicom, stem, text
from ustoolkit.data.readers.dicom_geometry import field_of_view, pixel_spacing, tissue_region, ultrasound_regions
from ustoolkit.data.readers.dicom_identity import (
    Identities,
    hidden_name,
    identities_of,
    patient_key,
    pseudonym,
    read_salt,
    shown_place,
    without_paths,
)
from ustoolkit.data.readers.dicom_pixels import decode_frame
from ustoolkit.data.readers.entry import Entry, Refused, merge_masks
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NOBODY = Identities((), ())


def matches(root: Path) -> bool:
    """Whether a DICOM file lies under the folder."""
    return bool(find_dicoms(root))


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry a still, and one for every k-th frame of a clip and for each of its frames that has a mask.

    Nothing that tells who was examined leaves the reader. The patient is a hash (HMAC-SHA256, 16 hexadecimal digits)
    of number and issuer, else of name and birth date, else of the study; see `read_salt` for its secret. An id, a file
    name or a path in a message that holds a name of three letters or more, a number or a UID of the file is replaced.
    What is drawn into the pixels stays: see the attribute `burned_in_annotation`.

    Args:
        root: the folder, searched with its sub-folders; one called as an image label gives the image its label.
        settings: `every_frame` is k, `dicom.salt_file` the secret.
    Raises:
        DataError: the salt file cannot be read. A file that cannot be read becomes an entry that is refused.
    """
    paths = find_dicoms(root)
    found = {path: _describe(path) for path in paths}
    salt = read_salt(settings.dicom.salt_file, (description.uid for description in found.values()))
    everybody = Identities.union(description.identities for description in found.values())
    names = unique_names(paths, root, stem)
    masks, orphans = masks_of_files(paths, root, stem)
    for path in paths:
        description = found[path]
        if description.refused:
            name = hidden_name(names[path], everybody, salt)  # a damaged file may not say whom it is of
            place = shown_place(path, name, everybody)
            yield Entry(name, Refused(description.refused.replace(str(path), place)))
            continue
        yield from _entries(path, root, names[path], description, masks.get(path, FileMasks()), salt, settings)
    for mask in orphans:
        name = hidden_name(mask.relative_to(root).as_posix(), everybody, salt)
        place = shown_place(mask, name, everybody)
        yield Entry(
            name, Refused(f"{place}: there is no image of this mask's name. Rename the mask, or add the image.")
        )


@dataclass(frozen=True)
class DicomLoader:
    """Loads one image or frame of a DICOM file.

    Attributes:
        source_id, label, patient_id, filename: as in `Sample`.
        path: the file.
        place: what messages call it.
        frame: counted from 0; None in a file of one.
        masks: files.
        num_classes: how many classes there are.
        colours: the class of each colour, where masks are coloured.
    """

    source_id: str
    path: Path
    place: str
    frame: int | None
    masks: tuple[Path, ...]
    num_classes: int
    colours: Colours
    label: str
    patient_id: str
    filename: str

    def __call__(self) -> Sample:
        """Reads the file.

        Raises:
            DataError: the pixels cannot be decoded, or a mask does not fit them.
        """
        with open_dicom(self.path, self.place) as (header, file):
            frame, frames = self.frame or 0, check_image(header, file, self.place)
            if frame >= frames:
                raise DataError(
                    f"{self.place}: there is a mask of frame {frame}, and frames are numbered 0 to {frames - 1}. "
                    "Rename the mask."
                )
            pixels = decode_frame(header, file, frame, f"{self.place}, frame {frame}" if frames > 1 else self.place)
            attributes, spacing_mm = _described(header, *pixels.shape[:2])
        if self.frame is not None:
            attributes["frame"] = self.frame
        return Sample(
            source_id=self.source_id,
            image=pixels,
            mask=self._mask(pixels),
            label=self.label,
            patient_id=self.patient_id,
            spacing_mm=spacing_mm,
            filename=self.filename,
            attributes=attributes,
        )

    def _mask(self, pixels: np.ndarray) -> np.ndarray | None:
        try:
            return merge_masks(Picture(pixels), self.filename, self.masks, self.num_classes, self.colours)
        except DataError as problem:
            if self.place == str(self.path):
                raise
            raise DataError(without_paths(str(problem), self.masks, f"a mask of {self.source_id}")) from None


@dataclass(frozen=True)
class _Description:
    """What is kept of a file between looking at all and naming each."""

    frames: int = 0
    uid: str = ""
    patient: str = ""
    identities: Identities = _NOBODY
    refused: str = ""


def _describe(path: Path) -> _Description:
    uid, identities = str(first_bytes(path)), _NOBODY
    try:
        with open_dicom(path, str(path)) as (header, file):
            identities, patient = identities_of(header), patient_key(header)
            uid = str(header.get("SOPInstanceUID") or uid)
            frames = check_image(header, file, str(path))
    except DataError as problem:
        return _Description(uid=uid, identities=identities, refused=str(problem))
    return _Description(frames, uid, patient or uid, identities)


def _entries(
    path: Path, root: Path, name: str, found: _Description, masks: FileMasks, salt: bytes, settings: DataSetSettings
) -> Iterator[Entry]:
    name = hidden_name(name, found.identities, salt)
    place = shown_place(path, name, found.identities)
    clip = found.frames > 1
    if clip and masks.whole:
        yield Entry(
            f"{name}#mask",
            Refused(f"{place}: a mask of this clip does not tell its frame. Call it NAME_0010_mask.png for frame 10."),
        )
    for frame in chosen_frames(found.frames, settings.every_frame, masks) if clip else [None]:
        source_id = name if frame is None else frame_id(name, frame, found.frames)
        loader = DicomLoader(
            source_id=source_id,
            path=path,
            place=place,
            frame=frame,
            masks=masks.whole if frame is None else masks.frames.get(frame, ()),
            num_classes=len(settings.classes),
            colours=colour_table(settings),
            label=folder_label(path, root, settings.labels),
            patient_id=pseudonym(salt, "patient", found.patient),
            filename=f"{name}.dcm" if found.identities.held_by(path.name) else path.name,
        )
        yield Entry(source_id, loader)


def _described(header: "Dataset", height: int, width: int) -> tuple[dict[str, Any], tuple[float, float] | None]:
    """Attributes, and the spacing of pixels; only what is listed here leaves the reader."""
    identities = identities_of(header)
    regions = ultrasound_regions(header)
    region = tissue_region(regions, height, width)
    told = {
        "modality": text(header, "Modality"),
        "device": _device(text(header, "Manufacturer"), text(header, "ManufacturerModelName")),
        "transducer": text(header, "TransducerData") or text(header, "TransducerType"),
        "burned_in_annotation": text(header, "BurnedInAnnotation"),
    }
    attributes: dict[str, Any] = {key: value for key, value in told.items() if value and not identities.held_by(value)}
    rate = frame_rate(header)
    if rate:
        attributes["frame_rate"] = rate
    if regions:
        attributes["ultrasound_regions"] = regions
    if region:
        attributes["field_of_view"] = field_of_view(region, height, width)
    return attributes, pixel_spacing(header, regions, height, width)


def _device(maker: str, model: str) -> str:
    return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
