"""One epoch of a records folder in a process of its own, and the peak memory after each stage in MB, as JSON.

python benchmarks/pipeline_memory.py RECORDS CACHE
"""

import json
import os
import resource
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from ustoolkit.data.pipeline import Batches
from ustoolkit.data.records import Records
from ustoolkit.recipe import load_recipe


def peak_megabytes() -> float:
    """Of this process so far."""
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)


def main() -> None:
    """Prints a line."""
    folder, cache = Path(sys.argv[1]), sys.argv[2]
    settings = [
        "data.image_size=[64,64]",
        f"data.cache={cache}",
        "augmentation.enabled=false",
        "training.batch_size=64",
    ]
    peaks = {"imported": peak_megabytes()}
    records = Records(folder)
    peaks["index"] = peak_megabytes()
    batches = Batches(records, [row.source_id for row in records.index], load_recipe("fast", settings), training=True)
    peaks["built"] = peak_megabytes()
    seen = 0
    for images, _ in batches.epoch(0):
        seen += len(images)
    peaks["one epoch"] = peak_megabytes()
    for images, _ in batches.epoch(1):
        seen += len(images)
    peaks["two epochs"] = peak_megabytes()
    if seen != 2 * batches.steps * batches.batch_size:
        raise SystemExit(f"expected {2 * batches.steps} full batches, found {seen} images")
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
