"""The index of a records folder: one line a record, with what splitting and counting need."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.example import pixel_digest
from ustoolkit.data.sample import Sample, count_regions
from ustoolkit.errors import RecordsError

INDEX_FILE = "index.jsonl"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """What is known of one record without decoding it.

    Attributes:
        source_id, patient_id, label, attributes: as in `Sample`.
        shard: file name of the shard that holds it.
        height, width: pixels.
        lesion_fraction: share of the pixels that are no background, or None where there is no mask.
        regions: connected regions of the class that has most, 0 without a mask.
        sha256: of the pixels; see `pixel_digest`.
        spacing_mm: as in `Sample`.
        duplicate_group: the first source id of the pictures that are this one or nearly so, '' where it has no double.
        offset: byte at which the record starts in its shard.
    """

    source_id: str
    patient_id: str
    label: str
    shard: str
    height: int
    width: int
    lesion_fraction: float | None
    regions: int
    sha256: str
    spacing_mm: tuple[float, float] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    duplicate_group: str = ""
    offset: int = 0


def index_row(sample: Sample, shard: str, offset: int) -> IndexRow:
    """The row of a sample, as far as it alone tells: whether it has doubles is not known yet."""
    return IndexRow(
        source_id=sample.source_id,
        patient_id=sample.patient_id,
        label=sample.label,
        shard=shard,
        height=sample.image.shape[0],
        width=sample.image.shape[1],
        lesion_fraction=None if sample.mask is None else round(float(np.mean(sample.mask > 0)), 6),
        regions=0 if sample.mask is None else count_regions(sample.mask),
        sha256=pixel_digest(sample.image),
        spacing_mm=sample.spacing_mm,
        attributes=sample.attributes,
        offset=offset,
    )


def row_line(row: dict[str, Any]) -> bytes:
    """A row as a line of the index."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def read_index(path: Path, remedy: str) -> list[IndexRow]:
    """Reads an index.

    Raises:
        RecordsError: missing or damaged; the message ends with `remedy`.
    """
    try:
        return [_row(json.loads(line)) for line in _lines(path)]
    except FileNotFoundError:
        raise RecordsError(f"{path}: no such file. {remedy}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise RecordsError(f"{path}: the index is damaged ({problem}). {remedy}") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:  # a name may hold what else Python takes for a line's end
        for line in file:
            if line != "\n":
                yield line


def _row(content: dict[str, Any]) -> IndexRow:
    """The row, with one copy of each word for all rows: most of the memory of a large index."""
    spacing = content.pop("spacing_mm", None)
    for name in ("label", "shard"):
        content[name] = sys.intern(content[name])
    attributes = content.get("attributes", {})
    content["attributes"] = {
        sys.intern(name): sys.intern(value) if type(value) is str else value for name, value in attributes.items()
    }
    return IndexRow(**content, spacing_mm=tuple(spacing) if spacing else None)
