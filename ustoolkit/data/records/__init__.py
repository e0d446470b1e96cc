"""Records: every image of a data set once, unsplit, in sharded TFRecords with a manifest and an index. No TensorFlow.

records/manifest.json                      classes, labels, counts, shard checksums, settings, refused and excluded ids
records/index.jsonl                        one line a record: what splitting and counting need, without the pixels
records/records-00000-of-00003.tfrecord    the shards
records/splits.json                        which image is in which part; see `ustoolkit.data.split`

`folder` and `index` read them. `writing` makes them: `shard` is what a worker does, `workers` and `beam` run it, and
`unfinished` goes on after an interruption.
"""

from ustoolkit.data.records.folder import (
    FORMAT_VERSION,
    RecordLoader,
    Records,
    is_records_folder,
    record_entries,
    records_of,
)
from ustoolkit.data.records.index import IndexRow
from ustoolkit.data.records.writing import write_records

__all__ = [
    "FORMAT_VERSION",
    "IndexRow",
    "RecordLoader",
    "Records",
    "is_records_folder",
    "record_entries",
    "records_of",
    "write_records",
]
