"""Annotated folders of every supported form, read as entries that load to samples.

A reader is a module with `matches(root) -> bool` and `read(root, settings) -> Iterator[Entry]`; one whose files name
classes has `class_names(root, settings) -> Iterable[str]` too, and one whose files number them
`classes(root, settings) -> tuple[str, ...]`, from 0.
"""

import re
from collections import Counter
from pathlib import Path
from types import ModuleType

from ustoolkit.data.readers import coco, dicom, labelme, mask_folder, nnunet, phantom, table, via, video
from ustoolkit.data.readers.entry import Entry, Refused, WithPatient
from ustoolkit.data.readers.meaning import with_classes
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

__all__ = ["READERS", "Entry", "describe", "detect", "open_data_set"]

READERS: dict[str, ModuleType] = {
    "phantom": phantom,
    "labelme": labelme,
    "via": via,
    "coco": coco,
    "nnunet": nnunet,
    "dicom": dicom,
    "video": video,
    "table": table,
    "mask-folder": mask_folder,
}
"""Modules by the name of their form; the first that matches a folder reads it."""


def detect(root: Path) -> str:
    """Names the reader of a folder.

    Raises:
        DataError: no such folder, an empty one, or one of no known form.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images and masks, found {_kind(root)}. Check the path.")
    for name, reader in READERS.items():
        if reader.matches(root):
            return name
    raise DataError(
        f"{root}: expected images with masks, found {_content(root)}. Put masks into a folder masks/ under "
        "the images' names, or beside them as NAME_mask.png."
    )


def describe(root: Path, settings: DataSetSettings) -> DataSetSettings:
    """Fills in what the folder itself says: its form, and the classes where the description gives none.

    Args:
        root: the folder.
        settings: as described.
    Raises:
        DataError: no such folder, or one of no known form.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images, found {_kind(root)}. Check the path.")
    name = detect(root) if settings.format == "auto" else settings.format
    told = settings.model_copy(update={"format": name})
    numbered = getattr(READERS[name], "classes", None)
    if numbered and "classes" not in told.model_fields_set:
        told = told.model_copy(update={"classes": numbered(root, told)})
    names = getattr(READERS[name], "class_names", None)
    return with_classes(told, names(root, told)) if names else told


def open_data_set(root: Path, settings: DataSetSettings) -> list[Entry]:
    """Lists a data set's images, in the order of their ids, without reading any.

    Args:
        root: the folder.
        settings: the format ('auto' looks), the classes, who is a patient.
    Returns:
        entries, sorted; each with a patient: by the settings' expression on the id, where there is one, else the
        source's own, else the id itself.
    Raises:
        DataError: the folder cannot be read as the format, or two images share an id.
    """
    settings = describe(root, settings)
    name = settings.format
    entries = sorted(READERS[name].read(root, settings), key=lambda entry: entry.source_id)
    if not entries:
        raise DataError(f"{root}: no images found as format '{name}'. Check the path, or --format.")
    shared = [name for name, count in Counter(entry.source_id for entry in entries).items() if count > 1]
    if shared:
        raise DataError(f"{root}: several images are called '{shared[0]}'. Rename them, or leave all but one out.")
    pattern = _patient_pattern(settings.patient)
    return [_finished(entry, pattern) for entry in entries]


def _finished(entry: Entry, pattern: re.Pattern[str] | None) -> Entry:
    if not _is_utf8(entry.source_id):
        name = entry.source_id.encode(errors="backslashreplace").decode()
        return Entry(name, Refused(f"{name}: the file's name is not valid UTF-8. Rename the file."))
    if isinstance(entry.load, Refused):
        return entry
    return Entry(entry.source_id, WithPatient(entry.load, _patient(pattern, entry.source_id), entry.source_id))


def _patient_pattern(expression: str) -> re.Pattern[str] | None:
    if not expression:
        return None
    try:
        pattern = re.compile(expression)
    except re.error as problem:
        raise DataError(f"patient expression '{expression}': not a regular expression ({problem}).") from None
    if not pattern.groups:
        raise DataError(
            f"patient expression '{expression}': expected a group in parentheses around the patient's "
            r"part of the name, such as 'bus_(\d+)'."
        )
    return pattern


def _patient(pattern: re.Pattern[str] | None, source_id: str) -> str:
    if pattern is None:
        return ""
    match = pattern.search(source_id)
    if match is None or not match.group(1):
        raise DataError(
            f"{source_id}: the patient expression '{pattern.pattern}' does not match this name. "
            "Widen the expression, or rename the file."
        )
    return match.group(1)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"


def _content(root: Path) -> str:
    files = [path.name for path in sorted(root.rglob("*")) if path.is_file()]
    if not files:
        return "an empty folder"
    return f"{len(files)} files and no image with a mask ({', '.join(files[:3])}{', …' if len(files) > 3 else ''})"
