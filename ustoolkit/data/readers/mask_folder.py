"""Images with mask files beside them, or in a folder of their own."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ustoolkit.data.readers.entry import Entry, FileLoader
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.recipe import DataSetSettings


def matches(root: Path) -> bool:
    """Whether at least one image under the folder has a mask file."""
    pairs, _ = pair_masks(root)
    return any(pairs.values())


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry an image; an image without a mask becomes an entry whose sample has none.

    A sub-folder named benign, malignant or normal gives the image its label.

    Args:
        root: the folder, searched with its sub-folders.
        settings: `classes` says how many values a mask may have.
    """
    pairs, _ = pair_masks(root)
    stems = Counter(path.stem for path in pairs)
    for image, masks in pairs.items():
        relative = image.relative_to(root)
        source_id = image.stem if stems[image.stem] == 1 else relative.with_suffix("").as_posix()
        label = next((part for part in map(str.lower, relative.parts[:-1]) if part in _LABEL_FOLDERS), "")
        yield Entry(source_id, FileLoader(source_id, image, masks, len(settings.classes), label=label))


_LABEL_FOLDERS = frozenset({"benign", "malignant", "normal"})
