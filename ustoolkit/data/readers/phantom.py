"""A folder of simulated images, as `ustoolkit phantom` writes it; or phantoms simulated on the fly."""

from collections.abc import Iterator
from pathlib import Path

from ustoolkit.data.readers import table
from ustoolkit.data.readers.entry import Entry
from ustoolkit.recipe import DataSetSettings
from ustoolkit.recipe.data_set import TableSettings


def matches(root: Path) -> bool:
    """Whether the folder holds the table that phantoms come with."""
    return (root / "phantoms.csv").is_file()


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry a phantom; see `ustoolkit.data.readers.table.read`."""
    columns = TableSettings(file="phantoms.csv", source_id="id")
    return table.read(root, settings.model_copy(update={"table": columns}))
