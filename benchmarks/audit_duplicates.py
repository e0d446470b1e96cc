"""How many planted copies are found, how many images are called copies and are none, and how long it takes.

python benchmarks/audit_duplicates.py --data data/busbra/Images --seed 1
python benchmarks/audit_duplicates.py --data data/busbra/Images --times 1000 10000
"""

import argparse
import hashlib
import os
import re
import resource
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from planted import plant

from ustoolkit.data.duplicates import find_duplicates, group_duplicates
from ustoolkit.data.example import pixel_digest
from ustoolkit.data.fingerprint import SAME_PICTURE, fingerprint
from ustoolkit.data.image_files import find_images, read_image
from ustoolkit.data.phantom import phantom_samples

_BATCH = 500
_LISTED = 6


def read_sources(folders: Sequence[Path], half: str, patient: str, phantoms: int, seed: int) -> dict[str, np.ndarray]:
    """Images by name, those of one half: the other was used to choose thresholds."""
    images = {}
    for path in (path for folder in folders for path in find_images(folder)):
        found = re.search(patient, path.name) if patient else None
        group = found.group(0) if found else path.name
        if half == "all" or hashlib.sha256(group.encode()).digest()[0] % 2 == int(half):
            images[path.name] = read_image(path)
    if phantoms:
        images |= {s.source_id: s.image for s in phantom_samples(phantoms, seed, (300, 400), frame=True)}
    return images


def measure(images: dict[str, np.ndarray], seed: int, count: int) -> None:
    """Prints, for each kind of copy, how many are found and how alike they are; then what is wrongly called a copy."""
    names, sources = list(images), list(images.values())
    planted = plant(sources, seed, count)
    everything = [*sources, *(image for _, _, image in planted)]
    start = time.perf_counter()
    prints = [fingerprint(image) for image in everything]
    each = (time.perf_counter() - start) / len(everything)
    start = time.perf_counter()
    pairs = find_duplicates(prints, [pixel_digest(image) for image in everything], least=-1.0)
    print(
        f"{len(sources)} images and {len(planted)} copies of them, seed {seed}: fingerprint {each * 1e3:.2f} ms an "
        f"image, finding {time.perf_counter() - start:.1f} s"
    )
    original = [*range(len(sources)), *(index for _, index, _ in planted)]
    reported = [pair for pair in pairs if pair.similarity >= SAME_PICTURE]
    group_of = {
        image: number for number, group in enumerate(group_duplicates(len(original), reported)) for image in group
    }
    alike = {(pair.first, pair.second): pair.similarity for pair in pairs}
    rows = defaultdict(list)
    for number, (kind, index, _) in enumerate(planted, len(sources)):
        found = number in group_of and group_of[number] == group_of.get(index)
        rows[kind].append((found, alike.get((index, number), float("nan"))))
    print(f"{'kind':22s} {'copies':>6s} {'found':>7s} {'compared':>9s}   similarity: least, 5 %, median")
    for kind, cases in rows.items():
        values = np.array([value for _, value in cases])
        compared = values[~np.isnan(values)]
        spread = "  ".join(f"{value:.2f}" for value in np.percentile(compared, [0, 5, 50]))
        share = np.mean([found for found, _ in cases])
        print(f"{kind:22s} {len(cases):6d} {share:7.1%} {len(compared) / len(cases):9.1%}   {spread}")
    wrong = [pair for pair in pairs if original[pair.first] != original[pair.second]]
    wrong.sort(key=lambda pair: -pair.similarity)
    called = [pair for pair in wrong if pair.similarity >= SAME_PICTURE]
    suspects = {original[image] for pair in called for image in (pair.first, pair.second)}
    values = [pair.similarity for pair in wrong] or [0.0]
    spread = "  ".join(f"{value:.2f}" for value in np.percentile(values, [50, 99, 100]))
    print(f"different images       {len(wrong):6d} pairs compared, similarity: median, 99 %, most  {spread}")
    print(f"wrongly called copies  {len(suspects)} of {len(sources)} images ({len(suspects) / len(sources):.2%})")
    clean = [pair for pair in wrong if pair.second < len(sources)]
    for pair in clean[:_LISTED]:
        print(f"    {names[pair.first]}, {names[pair.second]}: {pair.similarity:.2f}, {pair.change}")


def time_sizes(images: dict[str, np.ndarray], sizes: Sequence[int]) -> None:
    """Prints seconds and memory for sets of different images, made from the given ones by bending each anew."""
    small = [_shrink(image) for image in images.values()]
    batches = -(-max(sizes) // _BATCH)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        prints = [content for part in pool.map(_bent, repeat(small, batches), range(batches)) for content in part]
    for size in sizes:
        chosen = prints[:size]
        start = time.perf_counter()
        pairs = find_duplicates(chosen, [hashlib.sha256(content).hexdigest() for content in chosen])
        seconds = time.perf_counter() - start
        peak, load = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, os.getloadavg()[0]
        print(f"{size:7d} images: {seconds:6.1f} s, {len(pairs)} pairs, up to {peak:.2f} GiB, load {load:.1f}")


def _shrink(image: np.ndarray) -> np.ndarray:
    zoom = 130 / np.sqrt(image.shape[0] * image.shape[1])
    return cv2.resize(image[..., 0], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)


def _bent(small: Sequence[np.ndarray], seed: int) -> list[bytes]:
    """Fingerprints of images bent by up to some 6 of 130 pixels, so that none is a copy of another."""
    random = np.random.default_rng([seed, 13])
    made = []
    for _ in range(_BATCH):
        image = small[random.integers(len(small))]
        height, width = image.shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        down, right = (
            cv2.resize(random.normal(0, 6, (5, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
            for _ in range(2)
        )
        bent = cv2.remap(image, columns + right, rows + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        made.append(fingerprint(np.ascontiguousarray(bent if random.random() < 0.5 else bent[:, ::-1])[..., None]))
    return made


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of images")
    parser.add_argument("--half", choices=["0", "1", "all"], default="all", help="by a hash of the name")
    parser.add_argument("--patient", default="", help="regular expression; images with one match stay in one half")
    parser.add_argument("--phantoms", type=int, default=0, help="also this many phantoms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60, help="copies of each kind (default 60)")
    parser.add_argument("--times", type=int, nargs="*", default=[], help="sizes of sets to time instead")
    arguments = parser.parse_args()
    images = read_sources(arguments.data, arguments.half, arguments.patient, arguments.phantoms, arguments.seed)
    if not images:
        parser.error("no images: give folders with --data, or --phantoms 100")
    if arguments.times:
        time_sizes(images, arguments.times)
    else:
        measure(images, arguments.seed, arguments.count)


if __name__ == "__main__":
    main()
