"""Images with mask files beside them, or in a folder of their own."""

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ustoolkit.data.mask_values import colour_table
from ustoolkit.data.readers.csv_table import tables_in
from ustoolkit.data.readers.entry import Entry, FileLoader, Refused
from ustoolkit.data.readers.official_split import part_attribute
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.recipe import DataSetSettings


def matches(root: Path) -> bool:
    """Whether at least one image under the folder has a mask file."""
    pairs, _ = pair_masks(root)
    return any(pairs.values())


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry an image; an image without a mask becomes an entry whose sample has none.

    A sub-folder under the name of a label gives the image that label, one under the name of a part of a split, such as
    train, the attribute 'split'. Images of one name that differ in their suffix alone are refused when loaded, since
    nothing tells whose the mask is.

    Args:
        root: the folder, searched with its sub-folders.
        settings: `classes` says how many values a mask may have, `colours` what colours mean, `labels` which folders
            are labels.
    Raises:
        DataError: a folder cannot be read, or `colours` contradict each other.
    """
    for table in tables_in(root):
        warnings.warn(
            f"{table}: not used, since no column of it names the images here, so nobody knows their patients. Write "
            "the files' names into it, or name its columns under [table] in the data set's description.",
            stacklevel=2,
        )
    colours = colour_table(settings)
    labels = {label.strip().lower(): label for label in settings.labels}
    pairs, _ = pair_masks(root)
    stems = Counter(path.stem for path in pairs)
    places = Counter(path.with_suffix("") for path in pairs)
    for image, masks in pairs.items():
        relative = image.relative_to(root)
        folders = relative.parts[:-1]
        if places[image.with_suffix("")] > 1:
            yield Entry(relative.as_posix(), Refused(f"{image}: several images have this name. Leave all but one out."))
            continue
        source_id = image.stem if stems[image.stem] == 1 else relative.with_suffix("").as_posix()
        loader = FileLoader(
            source_id,
            image,
            masks,
            len(settings.classes),
            label=next((labels[name] for name in map(str.lower, reversed(folders)) if name in labels), ""),
            attributes=tuple(part_attribute(folders).items()),
            colours=colours,
        )
        yield Entry(source_id, loader)
