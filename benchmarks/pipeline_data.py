"""Records of any number of images for measuring the input pipeline: a few phantoms, stored again under new names."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ustoolkit.data.example import sample_to_features
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.records import FORMAT_VERSION
from ustoolkit.data.records.index import index_row, row_line
from ustoolkit.data.sample import Sample
from ustoolkit.data.tfrecord import encode_example, write_record

_IMAGES_A_SHARD = 512
_LABELS = {"benign": 0, "malignant": 1}


def write_repeated(folder: Path, images: int, samples: list[Sample]) -> None:
    """Writes a records folder in which the same pictures come again and again, each time as another image.

    Conversion itself would look for such doubles, so the files are written here.

    Args:
        folder: to make.
        images: how many records.
        samples: the pictures.
    """
    folder.mkdir(parents=True)
    count = -(-images // _IMAGES_A_SHARD)
    features = [sample_to_features(sample, _LABELS) for sample in samples]
    rows = [asdict(index_row(sample, "", 0)) for sample in samples]
    shards, index_digest = [], hashlib.sha256()
    with (folder / "index.jsonl").open("wb") as index:
        for shard in range(count):
            name = f"records-{shard:05}-of-{count:05}.tfrecord"
            with (folder / name).open("wb") as file:
                for number in range(shard * _IMAGES_A_SHARD, min(images, (shard + 1) * _IMAGES_A_SHARD)):
                    identity = {"source_id": f"image-{number:07}", "patient_id": f"patient-{number:07}"}
                    stored = {f"image/{key}": [value.encode()] for key, value in identity.items()}
                    place = number % len(samples)
                    line = row_line(rows[place] | identity | {"shard": name, "offset": file.tell()})
                    write_record(file, encode_example(features[place] | stored))
                    index.write(line)
                    index_digest.update(line)
            with (folder / name).open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            shards.append({"file": name, "bytes": (folder / name).stat().st_size, "sha256": checksum})
    manifest = {
        "format_version": FORMAT_VERSION,
        "classes": ["background", "lesion"],
        "labels": list(_LABELS),
        "counts": {"images": images},
        "digest": hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest(),
        "shards": shards,
        "index_sha256": index_digest.hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def phantoms(count: int, side: int | tuple[int, int]) -> list[Sample]:
    """So many phantoms with masks, uint8 (height, width, 1)."""
    size = (side, side) if isinstance(side, int) else side
    drawn: Iterator[Sample] = phantom_samples(count, size=size)
    return list(drawn)
