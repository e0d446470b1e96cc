"""Single images out of records, in any order and any process, without decoding the rest of their shard."""

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.data.example import features_to_sample
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.tfrecord import decode_example

_HEADER, _FOOTER = 12, 4  # bytes around a message: its length and checksum; the message's checksum


@dataclass(frozen=True)
class StoredImage:
    """Loads one image of a records folder; an entry's `load`.

    Attributes:
        source_id: of the record.
        shard: the file that holds it.
        position: byte at which its message starts.
        length: of the message, bytes.
    """

    source_id: str
    shard: Path
    position: int
    length: int

    def __call__(self) -> Sample:
        """Reads the record; the folder is checked before by `Records.verify`."""
        with self.shard.open("rb") as file:
            file.seek(self.position)
            return features_to_sample(decode_example(file.read(self.length)))


def stored_images(records: Records, source_ids: Iterable[str]) -> dict[str, StoredImage]:
    """Loaders of some of the images, in the order of the records.

    Args:
        records: verified.
        source_ids: which.
    """
    wanted, by_shard = set(source_ids), defaultdict(list)
    for row in records.index:
        by_shard[row.shard].append(row.source_id)
    found: dict[str, StoredImage] = {}
    for shard in records.shards:
        with shard.open("rb") as file:
            for source_id in by_shard[shard.name]:
                (length,) = struct.unpack("<Q", file.read(_HEADER)[:8])
                if source_id in wanted:
                    found[source_id] = StoredImage(source_id, shard, file.tell(), length)
                file.seek(length + _FOOTER, 1)
    return found
