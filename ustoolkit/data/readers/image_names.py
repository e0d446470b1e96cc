"""Which image file a table or an annotation means by a name, a stem or a path of another machine."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from ustoolkit.data.image_files import SUFFIXES


class ImageNames:
    """Images by what they may be called: file name or stem, with as many of their folders as are told.

    Args:
        root: the data set's folder.
        images: files under it.
    """

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        self._root = root
        self._by_name: dict[str, dict[Path, None]] = defaultdict(dict)
        self._by_word: dict[str, dict[Path, None]] = defaultdict(dict)
        self.count = 0
        for path in images:
            self.count += 1
            self._by_word[path.stem.casefold()][path] = None
            for name in (path.name, path.stem):
                self._by_name[name][path] = None

    def find(self, name: str) -> list[Path]:
        r"""The images that a name fits, in order: none, one, or several that cannot be told apart.

        Args:
            name: 'a', 'a.png', 'images/a.png' or 'C:\study\images\a.png'. Folders must agree as far as both go;
                those of another machine need not where no image's do. Upper and lower case, and the suffix, count only
                where an image has them just so.
        """
        name = name.strip()
        if name in self._by_name:
            return list(self._by_name[name])
        path = PureWindowsPath(name)  # takes both slashes
        if not path.name or "\0" in name:
            return []
        told = [part for part in reversed(path.parts[:-1]) if part not in (".", path.anchor)]
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        called = list(self._by_name.get(path.name) or self._by_word.get(stem.casefold()) or ())
        found = [image for image in called if self._agrees(image, told)]
        return found or (called if path.anchor else [])

    def source_id(self, image: Path) -> str:
        """The stem where no other image has it, else the path below the root; with suffix where only that differs."""
        alike = [path for path in self._by_name.get(image.stem, ()) if path.stem == image.stem and path != image]
        below = PurePosixPath(image.relative_to(self._root))
        if any(path.with_suffix("") == image.with_suffix("") for path in alike):
            return below.as_posix()
        return below.with_suffix("").as_posix() if alike else image.stem

    def _agrees(self, image: Path, told: list[str]) -> bool:
        folders = reversed(image.relative_to(self._root).parts[:-1])
        return all(one == other for one, other in zip(folders, told, strict=False))
