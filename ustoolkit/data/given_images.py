"""Images that a command is given to look at: files, folders, DICOM, records; each with a name for its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ustoolkit.data.readers import dicom
from ustoolkit.data.readers.dicom_files import SUFFIXES as DICOM_SUFFIXES
from ustoolkit.data.readers.entry import Entry, FileLoader
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import part_of
from ustoolkit.errors import DataError, OutputError, RecordsError
from ustoolkit.files import safe_name
from ustoolkit.recipe import DataSetSettings

SplitsOf = Callable[[str], Mapping[str, Sequence[str]] | None]
"""From the digest of records to the source ids of each part that a model knows of them, None where it knows none."""


@dataclass(frozen=True)
class GivenImage:
    """One image, not yet read.

    Attributes:
        name: for the files of its results; no two images share one.
        file: its path as given; '' where it has none of its own, or one that names a patient.
        load: reads it, or raises DataError.
    """

    name: str
    file: str
    load: Callable[[], Sample]


def given_images(paths: Sequence[Path], num_classes: int, part: str, splits_of: SplitsOf) -> list[GivenImage]:
    """Lists the images of files, folders and records folders, without reading any.

    An image's masks are read with it where they can be; one that cannot is left out, since nothing here needs it.

    Args:
        paths: image or DICOM files; folders, searched with their sub-folders, of images (with masks or without) or
            else of DICOM files; or records folders.
        num_classes: of the masks, the background included.
        part: which part of records, or 'all'.
        splits_of: the model's parts of these records.
    Returns:
        the images, in the order given; those of records must be loaded in that order.
    Raises:
        DataError: a path does not exist, or a folder holds no image.
        RecordsError: a records folder is damaged, or the model knows no such part of it.
    """
    found = [one for path in paths for one in _entries(path, num_classes, part, splits_of)]
    names = _unique_names([entry.source_id for entry, _ in found])
    return [GivenImage(name, file, entry.load) for name, (entry, file) in zip(names, found, strict=True)]


def loaded(images: Sequence[GivenImage], refused: list[str]) -> Iterator[tuple[GivenImage, Sample]]:
    """Yields each image that can be read; why others cannot is added to `refused`."""
    for image in images:
        try:
            yield image, image.load()
        except DataError as problem:
            refused.append(str(problem))


def check_apart(out: Path, paths: Sequence[Path]) -> None:
    """Refuses to write among a user's images.

    Raises:
        OutputError: `out` lies within one of `paths`.
    """
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise OutputError(
                f"{out}: this is within {path}, and results there would be taken for images and masks of yours. "
                "Choose another --out."
            )


@dataclass(frozen=True)
class _ImageWithMasks:
    """Loads an image, with its masks where they can be read."""

    loader: FileLoader | dicom.DicomLoader

    @property
    def path(self) -> Path | None:
        """The DICOM file; None of any other."""
        return getattr(self.loader, "path", None)

    def __call__(self) -> Sample:
        try:
            return self.loader()
        except DataError:
            return replace(self.loader, masks=())()


def _entries(path: Path, num_classes: int, part: str, splits_of: SplitsOf) -> list[tuple[Entry, str]]:
    if (path / "manifest.json").is_file():
        return [(entry, "") for entry in _record_entries(Records(path), part, splits_of)]
    if part != "all":
        raise RecordsError(f"{path}: --split {part} is for records folders. Leave --split out.")
    if path.is_file():
        return _dicom(path) or [_file(path, (), num_classes)]
    if not path.is_dir():
        raise DataError(f"{path}: expected an image or a folder of images, found nothing. Check the path.")
    pairs, _ = pair_masks(path)
    found = [_file(image, masks, num_classes) for image, masks in pairs.items()] or _dicoms(path)
    if not found:
        raise DataError(f"{path}: expected images (PNG, JPEG, BMP, TIFF) or DICOM files, found none. Check the path.")
    return found


def _file(path: Path, masks: tuple[Path, ...], num_classes: int) -> tuple[Entry, str]:
    return Entry(path.stem, _ImageWithMasks(FileLoader(path.stem, path, masks, num_classes))), str(path)


def _dicom(path: Path) -> list[tuple[Entry, str]]:
    """The images of one DICOM file; none where it is no such file, or cannot be read."""
    if path.suffix.lower() not in DICOM_SUFFIXES:
        return []
    found = _dicoms(path.parent)
    return [(entry, file) for entry, file in found if getattr(entry.load, "path", None) == path]


def _dicoms(path: Path) -> list[tuple[Entry, str]]:
    """Every image of DICOM stills, and some frames of clips, as records would hold them."""
    entries = dicom.read(path, DataSetSettings(path=str(path), format="dicom"))
    return [
        (replace(entry, load=_ImageWithMasks(entry.load)) if isinstance(entry.load, dicom.DicomLoader) else entry, "")
        for entry in entries
    ]


def _record_entries(records: Records, part: str, splits_of: SplitsOf) -> list[Entry]:
    """Entries that hand out the records in their order, so that each shard is read once."""
    splits = splits_of(records.digest)
    if part != "all" and splits is None:
        raise RecordsError(
            f"{records.folder}: the model does not know which of these images it was trained on, so there is no "
            f"'{part}' part. Name the run that was trained on them, or leave out --split."
        )
    wanted = part_of(splits or {}, part)
    chosen = None if wanted is None else set(wanted)
    samples = records.read(chosen)
    return [
        Entry(row.source_id, lambda: next(samples))
        for row in records.index
        if chosen is None or row.source_id in chosen
    ]


def _unique_names(source_ids: Sequence[str]) -> list[str]:
    """File names for results: the id, its folders joined, numbered where two would be the same."""
    names: list[str] = []
    taken: set[str] = set()
    for source_id in source_ids:
        base = name = safe_name(source_id)
        number = 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        names.append(name)
    return names
