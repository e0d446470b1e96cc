"""nnU-Net's raw folder: imagesTr/CASE_0000.png with labelsTr/CASE.png, and dataset.json."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.image_files import SUFFIXES, Picture, drop_equal_channels, read_picture
from ustoolkit.data.mask_values import Colours, colour_table
from ustoolkit.data.readers import nifti
from ustoolkit.data.readers.annotation_files import read_annotations
from ustoolkit.data.readers.entry import Entry, Refused, merge_masks, turned
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_PARTS = {"train": "Tr", "test": "Ts"}
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_MOST_CLASSES = 255


def matches(root: Path) -> bool:
    """Whether the folder, or one in it, has a dataset.json beside imagesTr."""
    return bool(_folders(root))


def classes(root: Path, settings: DataSetSettings) -> tuple[str, ...]:
    """The names of `labels` in dataset.json, in the order of their values.

    Raises:
        DataError: there is not one data set, or its labels are not 0 for the background, 1, 2, …
    """
    folder = _folder(root)
    return _classes(_description(folder), folder / "dataset.json")


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry a case: imagesTr with the attribute 'split' train, imagesTs test.

    One channel is a grey or a colour image; three grey ones become red, green and blue. Volumes yield every
    `every_frame`-th slice, of one patient. A case without a mask becomes a sample without one.

    Args:
        root: the data set's folder, or the one that it is the only one in.
        settings: `classes`, as many as dataset.json has labels.
    Raises:
        DataError: there is not one data set, or dataset.json is not as nnU-Net's. A case that lacks a channel becomes
            an entry that is refused when loaded.
    """
    folder = _folder(root)
    description = _description(folder)
    names = _classes(description, folder / "dataset.json")
    if len(settings.classes) != len(names):
        raise DataError(
            f"{folder / 'dataset.json'}: expected {len(settings.classes)} labels, as the description has classes "
            f"({', '.join(settings.classes)}), found {len(names)} ({', '.join(names)}). Leave classes out there."
        )
    ending = _ending(description, folder / "dataset.json")
    cases = [(part, case, files) for part in _PARTS for case, files in _cases(folder, part, ending).items()]
    counts = Counter(case for _, case, _ in cases)
    lengths = Counter(len(files) for _, _, files in cases)
    usual = max(lengths, key=lambda length: (lengths[length], length), default=1)
    for part, case, files in cases:
        name = case if counts[case] == 1 else f"{part}/{case}"
        mask = folder / f"labels{_PARTS[part]}" / f"{case}{ending}"
        loader = ChannelsLoader(
            source_id=name,
            channels=tuple(files[number] for number in sorted(files)),
            masks=(mask,) if mask.is_file() else (),
            num_classes=len(names),
            attributes=(("split", part),),
            colours=colour_table(settings),
        )
        try:
            _check_channels(files, usual, folder / f"images{_PARTS[part]}" / case)
            yield from _slices(loader, settings.every_frame) if ending in nifti.SUFFIXES else [Entry(name, loader)]
        except DataError as problem:
            yield Entry(name, Refused(str(problem)))


@dataclass(frozen=True)
class ChannelsLoader:
    """Loads a sample from one file, or three of a channel each, or the same slice of each.

    Attributes:
        source_id, patient_id, spacing_mm, attributes: as in `Sample`.
        channels: the image files, one or three.
        masks: the file of class indices, or none.
        num_classes: the background included.
        colours: the class of each colour, where masks are coloured.
        number: of the slice, from 0; None where the files are no NIfTI.
    """

    source_id: str
    channels: tuple[Path, ...]
    masks: tuple[Path, ...]
    num_classes: int
    attributes: tuple[tuple[str, Any], ...]
    colours: Colours = ()
    patient_id: str = ""
    spacing_mm: tuple[float, float] | None = None
    number: int | None = None

    def __call__(self) -> Sample:
        """Reads the files.

        Raises:
            DataError: a file cannot be read, channels are not grey, or sizes differ.
        """
        pictures = [self._picture(path) for path in self.channels]
        picture = pictures[0]
        if len(pictures) > 1:
            for path, other in zip(self.channels, pictures, strict=True):
                size = other.pixels.shape
                if size != (*picture.pixels.shape[:2], 1):
                    raise DataError(
                        f"{path}: expected a grey channel of {picture.pixels.shape[1]} × {picture.pixels.shape[0]} "
                        f"pixels, found {size[1]} × {size[0]} in {size[2]} colours. Save all channels alike."
                    )
            merged = drop_equal_channels(np.concatenate([other.pixels for other in pictures], axis=2))
            picture = Picture(merged, picture.orientation)
        return Sample(
            source_id=self.source_id,
            image=picture.pixels,
            mask=self._mask(picture) if self.masks else None,
            label="",
            patient_id=self.patient_id,
            spacing_mm=self.spacing_mm,
            filename=self.image.name,
            attributes=dict(self.attributes) | turned(picture),
        )

    @property
    def image(self) -> Path:
        """The first channel's file, which the sample is named after."""
        return self.channels[0]

    def _picture(self, path: Path) -> Picture:
        return read_picture(path) if self.number is None else Picture(nifti.read_nifti_picture(path, self.number))

    def _mask(self, picture: Picture) -> np.ndarray | None:
        if self.number is None:
            return merge_masks(picture, self.image.name, self.masks, self.num_classes, self.colours)
        (path,) = self.masks
        mask, size = nifti.read_volume(path), picture.pixels.shape[:2]
        if (mask.height, mask.width) != size or self.number >= mask.slices:
            raise DataError(
                f"{path}: the mask is {mask.width} × {mask.height} × {mask.slices} pixels, slice {self.number} of "
                f"its image is {size[1]} × {size[0]}. Draw the mask on this image, or leave both out."
            )
        return nifti.read_nifti_mask(path, self.number, self.num_classes)


def _slices(loader: ChannelsLoader, every: int) -> Iterator[Entry]:
    """The entries of a case in NIfTI."""
    volume = nifti.read_volume(loader.channels[0])
    for path in (*loader.channels[1:], *loader.masks):
        other = nifti.read_volume(path)
        if (other.slices, other.height, other.width) != (volume.slices, volume.height, volume.width):
            raise DataError(
                f"{path}: expected {volume.width} × {volume.height} × {volume.slices} pixels as in "
                f"{loader.channels[0].name}, found {other.width} × {other.height} × {other.slices}. Draw the mask on "
                "this image, or leave both out."
            )
    for number in range(0, volume.slices, every):
        name, attributes = loader.source_id, loader.attributes
        if volume.slices > 1:
            name, attributes = f"{name}_slice{number:04}", (*attributes, ("slice", number))
        yield Entry(
            name,
            replace(
                loader,
                source_id=name,
                attributes=attributes,
                patient_id=loader.source_id,
                spacing_mm=volume.spacing_mm,
                number=number,
            ),
        )


def _check_channels(files: dict[int, Path], usual: int, case: Path) -> None:
    if -1 in files:
        raise DataError(
            f"{files[-1]}: expected a name with the channel's number, such as {case.name}_0000, found none. Rename it."
        )
    if len(files) not in (1, 3):
        raise DataError(f"{case}: expected one channel, or three, found {len(files)}. Save it as a grey or RGB image.")
    if sorted(files) != list(range(usual)):
        names = ", ".join(path.name for path in files.values())
        raise DataError(
            f"{case}: expected {usual} channels, from 0000 on, as most cases have, found {names}. Add what is missing."
        )


def _cases(folder: Path, part: str, ending: str) -> dict[str, dict[int, Path]]:
    """The files of each case by channel, -1 where the name has none."""
    cases: dict[str, dict[int, Path]] = defaultdict(dict)
    images = folder / f"images{_PARTS[part]}"
    for path in sorted(images.iterdir()) if images.is_dir() else ():
        stem = path.name.removesuffix(ending)
        if path.name.startswith(".") or stem == path.name:
            continue
        channel = _CHANNEL.fullmatch(stem)
        cases[channel[1] if channel else stem][int(channel[2]) if channel else -1] = path
    return cases


def _folders(root: Path) -> list[Path]:
    """Data sets: the folder itself, else those in it."""
    for candidates in ([root], sorted(root.iterdir()) if root.is_dir() else []):
        found = [each for each in candidates if (each / "imagesTr").is_dir() and (each / "dataset.json").is_file()]
        if found:
            return found
    return []


def _folder(root: Path) -> Path:
    found = _folders(root)
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found[:5]) or "none"
        raise DataError(
            f"{root}: expected one folder of nnU-Net's form, with dataset.json and imagesTr, found {names}. Give the "
            "path of one such as Dataset001_Name."
        )
    return found[0]


def _description(folder: Path) -> dict[str, Any]:
    content = read_annotations(folder / "dataset.json")
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise DataError(f"{folder / 'dataset.json'}: expected 'labels' with a value each, found none. Add them.")
    return content


def _classes(description: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Names by value, from {"lesion": 1} (version 2) or {"1": "lesion"} (version 1)."""
    labels: dict[str, Any] = description["labels"]
    first_version = all(_index(key) >= 0 and isinstance(name, str) for key, name in labels.items())
    values = {name: key for key, name in labels.items()} if first_version else labels
    if len(values) != len(labels):
        raise DataError(f"{path}: expected a name for each label, found one name twice. Rename the labels.")
    if "ignore" in {name.strip().lower() for name in values}:
        raise DataError(
            f"{path}: expected every pixel to have a class, found the label 'ignore', which training would take for a "
            "class. Draw what it hides, or give it the background's value, and take the label out."
        )
    if any(isinstance(value, list) for value in values.values()):
        raise DataError(
            f"{path}: expected one value for each label, found regions of several ({values}). Give every label a value "
            "of its own."
        )
    names = {_index(value): name for name, value in values.items()}
    if sorted(names) != list(range(len(values))) or not 2 <= len(names) <= _MOST_CLASSES:
        raise DataError(
            f"{path}: expected labels 0 (background), 1, …, at most {_MOST_CLASSES}, found {list(values.values())}. "
            "Correct the labels."
        )
    return tuple(names[index] for index in range(len(names)))


def _index(value: Any) -> int:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,3}", value.strip()) else -1


def _ending(description: dict[str, Any], path: Path) -> str:
    ending = description.get("file_ending", ".nii.gz")  # version 1 knew no other
    if not isinstance(ending, str) or ending not in SUFFIXES | set(nifti.SUFFIXES):
        raise DataError(
            f"{path}: expected a file_ending of {', '.join(sorted(SUFFIXES | set(nifti.SUFFIXES)))}, found {ending!r}. "
            "Convert the images."
        )
    return ending
