"""Which files lie under a folder, links included, and paths that must not lead out of it."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PureWindowsPath

from ustoolkit.errors import DataError

_DEEPEST = 100  # folders within folders


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files anywhere under a folder, by suffix, sorted; hidden files and folders are left out, links are followed.

    Args:
        folder: where to look.
        suffixes: lower case, with the dot.
    Raises:
        DataError: a linked folder leads back to one that it lies in, or a folder cannot be read.
    """
    found = (place / name for place, names in _walk(folder, (), set()) for name in names)
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file())


def locate(root: Path, folder: Path, name: str, told_by: str) -> Path:
    """The file that an annotation names, which must lie in the data set's folder.

    Args:
        root: the data set's folder.
        folder: the annotation's folder, which `name` is relative to.
        name: a path in the spelling of any system. An absolute one, or one that is not there, is looked for by its
            last part beside the annotation.
        told_by: the annotation, for the message.
    Raises:
        DataError: the path leads out of the folder, or there is no such file.
    """
    parts = PureWindowsPath(name)  # takes both slashes
    if not name.strip() or "\0" in name:
        raise DataError(f"{told_by}: expected the name of an image, found {name[:100]!r}. Correct it.")
    check_inside(root, folder, name, told_by)
    places = [folder / parts.name]
    if not parts.anchor:
        places.insert(0, Path(os.path.normpath(folder / Path(*parts.parts))))
    for path in places:
        if _is_file(path):
            return path
    raise DataError(f"{told_by}: there is no image {name[:100]!r} under {folder}. Add it, or correct the path.")


def check_inside(root: Path, folder: Path, name: str, told_by: str) -> None:
    """Checks that a relative path, in the spelling of any system, stays in the data set's folder.

    Args:
        root, folder, name, told_by: as for `locate`.
    Raises:
        DataError: it leads out.
    """
    parts = PureWindowsPath(name)
    path = Path(os.path.normpath(folder / Path(*parts.parts)))
    if not parts.anchor and not path.is_relative_to(os.path.normpath(root)):
        raise DataError(
            f"{told_by}: the image path {name[:100]!r} leads out of {root}. Put the image into the folder, and name it "
            "relative to the annotation."
        )


def _walk(folder: Path, above: tuple[str, ...], seen: set[str]) -> Iterator[tuple[Path, list[str]]]:
    """Each real folder once, however many links lead to it."""
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{folder}: this link leads back to a folder that it lies in. Remove the link.")
    if len(above) > _DEEPEST:
        raise DataError(f"{folder}: expected at most {_DEEPEST} folders within each other. Move the images up.")
    if real in seen:
        return
    seen.add(real)
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if _is_folder(entry) else names).append(entry.name)
    except OSError as problem:
        raise DataError(f"{folder}: the folder cannot be read ({problem.strerror}). Check its permissions.") from None
    yield folder, names
    for name in sorted(folders):
        yield from _walk(folder / name, (*above, real), seen)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the system
        return False
