"""How many images a second `ustoolkit records` converts, by worker processes, and how much memory each takes.

python benchmarks/conversion.py --images 1920 --workers 1 2 4

Beside it stand a plain loop over the same entries in this process, and TensorFlow's own writer with its PNG encoder.
"""

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from ustoolkit.data.example import sample_to_features
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import write_records
from ustoolkit.data.tfrecord import encode_example, write_record
from ustoolkit.recipe import DataSetSettings

_DRAWN = 60
_SETTINGS = DataSetSettings()
_LABELS = {label: number for number, label in enumerate(_SETTINGS.labels)}


def make_data_set(root: Path, count: int, size: tuple[int, int]) -> list[Entry]:
    """A folder of phantoms with masks; 60 are drawn, the others are copies of them and cost as much to convert."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    drawn = [(encode_png(sample.image), encode_png(sample.mask * 255)) for sample in phantom_samples(_DRAWN, size=size)]
    for number in range(count):
        for folder, content in zip(("images", "masks"), drawn[number % _DRAWN], strict=True):
            (root / folder / f"scan_{number:06}.png").write_bytes(content)
    return open_data_set(root, _SETTINGS)


class PeakMemory:
    """The largest resident size of each child process of this one, sampled while it lives; MB."""

    def __init__(self) -> None:
        self.peaks: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        tasks = Path(f"/proc/{os.getpid()}/task")
        while not self._stop.wait(0.1):
            for children in tasks.glob("*/children"):
                for child in _words(children):
                    self.peaks[int(child)] = max(self.peaks.get(int(child), 0), _peak(int(child)))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _peak(process: int) -> float:
    lines = _words(Path(f"/proc/{process}/status"))
    return int(lines[lines.index("VmHWM:") + 1]) / 1024 if "VmHWM:" in lines else 0.0


def seconds(work: Callable[[], object]) -> float:
    """Wall clock of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_loop(entries: list[Entry], path: Path) -> None:
    """Reads and writes every image, one after another, and does nothing else."""
    with path.open("wb") as file:
        for entry in entries:
            write_record(file, encode_example(sample_to_features(entry.load(), _LABELS)))


def tensorflow_loop(entries: list[Entry], path: Path) -> None:
    """The same with TensorFlow's PNG encoder and its writer."""
    import tensorflow as tf

    def encoded(pixels: object) -> bytes:
        return tf.io.encode_png(pixels).numpy()

    known = sample_to_features(entries[0].load(), _LABELS)  # all but the pictures costs next to nothing
    with tf.io.TFRecordWriter(str(path)) as writer:
        for entry in entries:
            sample = entry.load()
            pictures = {
                "image/encoded": [encoded(sample.image)],
                "image/segmentation/class/encoded": [encoded(sample.mask[..., None])],
            }
            writer.write(encode_example(known | pictures))


def main() -> None:
    """Prints a line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1920, help="to convert (default 1920)")
    parser.add_argument("--size", type=int, nargs=2, default=[400, 500], metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="processes (default 1 2 4)")
    parser.add_argument("--rounds", type=int, default=1, help="of which the fastest counts (default 1)")
    parser.add_argument("--no-tensorflow", action="store_true", help="leave TensorFlow's writer out")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        entries = make_data_set(folder / "set", options.images, tuple(options.size))
        height, width = options.size
        print(f"{options.images} phantoms of {height} × {width}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        few = entries[: max(1, len(entries) // 4)]

        def rate(work: Callable[[], object], count: int) -> float:
            return count / min(seconds(work) for _ in range(options.rounds))

        loop = rate(lambda: plain_loop(few, folder / "plain"), len(few))
        print(f"{'plain loop, one process':40s} {loop:7.1f} images/s")
        single = 0.0
        for workers in options.workers:
            with PeakMemory() as memory:

                def convert(workers: int = workers) -> None:
                    write_records(entries, folder / "records", _SETTINGS, workers, overwrite=True)

                found = rate(convert, len(entries))
            single = single or found / workers
            name = f"ustoolkit records, workers {workers}"
            peak = f"{max(memory.peaks.values()):.0f} MB at most a worker" if memory.peaks else "in this process"
            print(
                f"{name:40s} {found:7.1f} images/s, {found / loop:.2f} of the plain loop, "
                f"{found / single:.2f} of workers 1, {peak}"
            )
        if not options.no_tensorflow:
            tensorflow_loop(entries[:1], folder / "tensorflow")  # TensorFlow's start is not counted
            theirs = rate(lambda: tensorflow_loop(few, folder / "tensorflow"), len(few))
            print(
                f"{'TFRecordWriter and encode_png':40s} {theirs:7.1f} images/s, {theirs / loop:.2f} of the plain loop"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
