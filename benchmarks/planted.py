"""Plants known mistakes into a data set, and counts how many of them an audit finds.

python benchmarks/planted.py --data data/busbra --out planted --seed 1
ustoolkit inspect planted --out audited
python benchmarks/planted.py --out planted --check audited/audit.json
"""

import argparse
import csv
import io
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, UstoolkitError
from ustoolkit.files import new_folder, read_json, safe_name, write_bytes, write_json, write_text
from ustoolkit.recipe import DataSetSettings
from ustoolkit.recipe.toml import load_data_set

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def plant(
    source_images: Sequence[np.ndarray], seed: int, count: int, kinds: Sequence[str] = ()
) -> list[tuple[str, int, np.ndarray]]:
    """Changed copies of images, of every kind, their strengths drawn from a seed.

    Args:
        source_images: uint8 (height, width, 1 or 3).
        seed: another seed, other originals and other strengths.
        count: copies of each kind.
        kinds: names in `CHANGES`; all where empty.
    Returns:
        (kind, index of the original, copy) of each, uint8 (height, width, 1 or 3).
    """
    planted = []
    order = np.random.default_rng([seed, 3]).permutation(len(source_images))
    for number, (kind, change) in enumerate(CHANGES.items()):
        if kinds and kind not in kinds:
            continue
        random = np.random.default_rng([seed, number, 7])
        for turn in range(number * count, (number + 1) * count):
            index = int(order[turn % len(order)])  # so that few originals have more than one copy
            planted.append((kind, index, change(source_images[index], random)))
    return planted


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG, uint8 (height, width, channels)."""
    stored = image[..., 0] if image.shape[2] == 1 else image[..., ::-1]
    content = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    read = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return read[..., None] if read.ndim == 2 else np.ascontiguousarray(read[..., ::-1])


def _exact(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return image.copy()


def _jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return jpeg(image, random.integers(20, 96))


def _resized(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    scale = float(np.exp(random.uniform(np.log(0.5), np.log(1.5))))
    how = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST][random.integers(4)]
    return _resize(image, round(image.shape[1] * scale), round(image.shape[0] * scale), how)


def _toned(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another brightness, contrast and gamma."""
    values = (image / 255.0) ** float(np.exp(random.uniform(-0.5, 0.5)))
    values = (values - 0.5) * random.uniform(0.7, 1.3) + 0.5 + random.uniform(-0.12, 0.12)
    return _bytes(values * 255)


def _blurred_or_noisy(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if random.random() < 0.5:
        return _bytes(image + random.normal(0, random.uniform(1, 8), image.shape))
    return _channels(cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.5)))


def _other_channels(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def _reencoded(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    steps = (_resized, _toned, _blurred_or_noisy, _other_channels, _jpeg)
    taken = random.random(len(steps)) < 0.6
    taken[random.integers(len(steps))] = True
    for step, take in zip(steps, taken, strict=True):
        image = step(image, random) if take else image
    return image


def _cropped(image: np.ndarray, random: np.random.Generator, most: float = 0.08, least: float = 0.0) -> np.ndarray:
    height, width = image.shape[:2]
    top, bottom = np.rint(random.uniform(least, most, 2) * height).astype(int)
    left, right = np.rint(random.uniform(least, most, 2) * width).astype(int)
    part = np.ascontiguousarray(image[top : height - bottom, left : width - right])
    return _resize(part, width, height, cv2.INTER_LINEAR) if random.random() < 0.4 else part


def _cropped_most(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _cropped(image, random, 0.10, 0.06)


def _cropped_jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _jpeg(_cropped(image, random), random)


def _turned(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, random.integers(1, 4)))


def _mirrored(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1] if random.random() < 0.5 else image[::-1])


def _rotated(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    angle = random.uniform(1, 15) * random.choice([-1, 1])
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    border = [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE][random.integers(2)]
    return _channels(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border))


def _reencoded_cropped(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _reencoded(_cropped(image, random), random)


def _rotated_jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    step = (_turned, _mirrored, _rotated)[random.integers(3)]
    return _jpeg(step(image, random), random)


def _marked(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Text, a caliper, a border, or several of them."""
    image = image.copy()
    height, width = image.shape[:2]
    taken = random.random(3) < 0.6
    taken[random.integers(3)] = True
    grey = int(random.integers(180, 256))
    colour = (grey,) * image.shape[2]
    canvas = np.ascontiguousarray(image)
    if taken[0]:
        for _ in range(random.integers(1, 4)):
            place = (int(random.uniform(0, 0.7) * width), int(random.uniform(0.05, 1) * height))
            text = ["LT BREAST 3H", "Freq 12 MHz", "DIST 1.24 cm", "A", "RADIAL 2 CM FN"][random.integers(5)]
            cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, random.uniform(0.4, 1) * width / 400, colour, 1)
    if taken[1]:
        ends = [(int(x * width), int(y * height)) for x, y in random.uniform(0.2, 0.8, (2, 2))]
        for end in ends:
            cv2.drawMarker(canvas, end, colour, cv2.MARKER_CROSS, max(5, width // 40), 1)
        if random.random() < 0.5:
            cv2.line(canvas, *ends, colour, 1)
    canvas = _channels(canvas)
    if taken[2]:
        top, bottom = (random.uniform(0.01, 0.08, 2) * height).astype(int)
        left, right = (random.uniform(0.01, 0.08, 2) * width).astype(int)
        fill = int(random.choice([0, 0, 128, 255]))
        canvas = cv2.copyMakeBorder(
            canvas, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(fill,) * image.shape[2]
        )
    return _channels(canvas)


CHANGES: dict[str, Change] = {
    "exact": _exact,
    "re-encoded": _reencoded,
    "cropped": _cropped,
    "cropped 6 to 10 %": _cropped_most,
    "cropped, JPEG": _cropped_jpeg,
    "turned": _turned,
    "mirrored": _mirrored,
    "rotated 1 to 15°": _rotated,
    "re-encoded, cropped": _reencoded_cropped,
    "rotated, JPEG": _rotated_jpeg,
    "marked": _marked,
}


def _resize(image: np.ndarray, width: int, height: int, how: int) -> np.ndarray:
    return _channels(cv2.resize(image, (max(8, width), max(8, height)), interpolation=how))


def _channels(image: np.ndarray) -> np.ndarray:
    return image[..., None] if image.ndim == 2 else image


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# --- on disk ---

_FOLDS = 5
_REPORT = "planted.json"

# What kinds of problem an audit may file each planted mistake under: any whose name holds one of these.
FITTING = {
    "exact duplicate": ("same picture", "duplicate"),
    "re-encoded copy": ("same picture", "duplicate"),
    "slightly cropped copy": ("same picture", "duplicate"),
    "flipped label": ("different labels", "labels contradict", "label against"),
    "shared patient": ("patient in different parts", "shared patient"),
    "empty mask": ("empty mask",),
    "rotated photo": ("same picture", "duplicate", "turned"),
}


@dataclass(frozen=True, eq=False)
class _Row:
    """An image to write, and what the table says of it."""

    name: str
    image: bytes
    suffix: str
    mask: np.ndarray | None
    patient: str
    label: str
    fold: str


@dataclass
class _Planted:
    """What was planted: the ids of each kind, and those that are rightly named together with them."""

    kinds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    partners: set[str] = field(default_factory=set)


def write_planted(data: Path, out: Path, seed: int, count: int, overwrite: bool = False) -> dict[str, list[str]]:
    """Writes a data set with mistakes: `images/`, `masks/`, `table.csv`, and `planted.json` that tells them.

    Args:
        data: a folder that a reader knows, or the TOML description of one.
        out: the folder to make.
        seed: another seed, other mistakes.
        count: mistakes of each kind.
        overwrite: whether an older one at `out` may be replaced.
    Returns:
        ids of each kind.
    Raises:
        DataError: too few images that can be read.
        OutputError: `out` cannot be written.
    """
    settings = load_data_set(data) if data.suffix == ".toml" else DataSetSettings()
    samples = _read(Path(settings.path) if settings.path else data, settings)
    if len(samples) < 2 * count * len(FITTING):
        raise DataError(
            f"{data}: expected at least {2 * count * len(FITTING)} images that can be read, found {len(samples)}. "
            "Plant fewer, with --count."
        )
    random = np.random.default_rng([seed, 11])
    rows = {row.name: row for row in (_clean(sample, random) for sample in samples)}
    planted = _plant(samples, rows, count, random)
    with new_folder(out, overwrite, owned_by=_REPORT) as folder:
        for row in rows.values():
            write_bytes(folder / "images" / f"{row.name}{row.suffix}", row.image)
            if row.mask is not None:
                write_bytes(folder / "masks" / f"{row.name}.png", encode_png(row.mask))
        write_text(folder / "table.csv", _table(rows.values()))
        write_json(
            folder / _REPORT,
            {"seed": seed, "images": len(rows), "planted": planted.kinds, "partners": sorted(planted.partners)},
        )
    return dict(planted.kinds)


def check_audit(told: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """How many planted mistakes an audit found, and how many images it suspects that are as they were.

    Args:
        told: the content of `planted.json`.
        result: the content of `audit.json`; `problems` with 'kind' and 'source_ids'.
    Returns:
        recall: share of the planted ids that are in any problem of a fitting kind, by kind; missed: the others;
        false_alarms: untouched images named in a problem of any of these kinds, by the problem's kind.
    """
    named = [(str(problem["kind"]), {str(name) for name in problem["source_ids"]}) for problem in result["problems"]]
    missed = {}
    for kind, ids in told["planted"].items():
        found = set().union(*(names for title, names in named if _fits(title, kind)))
        missed[kind] = sorted(set(ids) - found)
    touched = {name for ids in told["planted"].values() for name in ids} | set(told["partners"])
    suspects = {
        title: sorted(names - touched) for title, names in named if any(_fits(title, kind) for kind in told["planted"])
    }
    return {
        "recall": {kind: 1 - len(missed[kind]) / max(1, len(ids)) for kind, ids in told["planted"].items()},
        "missed": missed,
        "false_alarms": {title: names for title, names in suspects.items() if names},
    }


def _fits(title: str, kind: str) -> bool:
    return any(word in title for word in FITTING[kind])


def _read(root: Path, settings: DataSetSettings) -> list[Sample]:
    samples = []
    for entry in open_data_set(root, settings):
        try:
            samples.append(entry.load())
        except DataError as problem:
            print(f"left out: {problem}", file=sys.stderr)
    return samples


def _clean(sample: Sample, random: np.random.Generator) -> _Row:
    known = {name.lower(): str(value) for name, value in sample.attributes.items()}
    # Without folds of its own, a set gets some; a patient's images are in one.
    fold = known.get("fold") or str(1 + zlib.crc32(sample.patient_id.encode()) % _FOLDS)
    content = encode_png(sample.image)
    return _Row(
        safe_name(sample.source_id), content, ".png", _shown(sample.mask), sample.patient_id, sample.label, fold
    )


def _shown(mask: np.ndarray | None) -> np.ndarray | None:
    return None if mask is None else mask * np.uint8(255 if mask.max(initial=0) <= 1 else 1)


def _plant(samples: list[Sample], rows: dict[str, _Row], count: int, random: np.random.Generator) -> _Planted:
    """Adds copies to the rows, and changes some."""
    planted = _Planted()
    order = [samples[index] for index in random.permutation(len(samples))]
    labels = sorted({sample.label for sample in samples if sample.label})
    by_fold = defaultdict(set)
    for row in rows.values():
        by_fold[row.fold].add(row.patient)

    def take(usable: Callable[[Sample], bool] = lambda sample: True) -> list[Sample]:
        chosen = [sample for sample in order if usable(sample)][:count]
        for sample in chosen:
            order.remove(sample)
        return chosen

    def add(kind: str, original: Sample, image: bytes, suffix: str, mask: np.ndarray | None, label: str) -> None:
        name = f"{_PREFIX}_{sum(map(len, planted.kinds.values())):04d}"
        fold = str(random.choice(sorted(by_fold)))
        rows[name] = _Row(name, image, suffix, _shown(mask), f"{name}_patient", label, fold)
        planted.kinds[kind].append(name)
        planted.partners.add(safe_name(original.source_id))

    for sample in take():
        add("exact duplicate", sample, encode_png(sample.image), ".png", sample.mask, sample.label)
    for sample in take():
        image = _toned(_resized(sample.image, random), random)
        add("re-encoded copy", sample, *_jpeg_file(image, random), _resize_mask(sample.mask, image), sample.label)
    for sample in take():
        image, mask = _crop_both(sample, random)
        add("slightly cropped copy", sample, encode_png(image), ".png", mask, sample.label)
    for sample in take(lambda sample: bool(sample.label) and len(labels) > 1):
        other = str(random.choice([label for label in labels if label != sample.label]))
        add("flipped label", sample, encode_png(sample.image), ".png", sample.mask, other)
    for number, sample in enumerate(take()):
        if number % 2:
            quarters = int(random.integers(1, 4))
            mask = None if sample.mask is None else np.rot90(sample.mask, quarters)
            add("rotated photo", sample, encode_png(np.rot90(sample.image, quarters)), ".png", mask, sample.label)
        else:
            image = _exif_file(sample.image, int(random.choice([3, 6, 8])))
            add("rotated photo", sample, image, ".jpg", sample.mask, sample.label)
    for sample in take(lambda sample: len(by_fold) > 1):
        row = rows[safe_name(sample.source_id)]
        elsewhere = sorted(set().union(*(names for fold, names in by_fold.items() if fold != row.fold)))
        rows[row.name] = replace(row, patient=str(random.choice(elsewhere)))
        planted.kinds["shared patient"].append(row.name)
        planted.partners.update(other.name for other in rows.values() if other.patient == rows[row.name].patient)
    for sample in take(lambda sample: sample.mask is not None and sample.mask.any() and sample.label != "normal"):
        row = rows[safe_name(sample.source_id)]
        rows[row.name] = replace(row, mask=np.zeros_like(row.mask))
        planted.kinds["empty mask"].append(row.name)
    return planted


_PREFIX = "added"


def _jpeg_file(image: np.ndarray, random: np.random.Generator) -> tuple[bytes, str]:
    stored = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    content = io.BytesIO()
    stored.save(content, "JPEG", quality=int(random.integers(20, 96)))
    return content.getvalue(), ".jpg"


def _exif_file(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG file whose EXIF tag turns it when it is read, and its mask of the same size with it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "JPEG", quality=90, exif=exif)
    return content.getvalue()


def _resize_mask(mask: np.ndarray | None, image: np.ndarray) -> np.ndarray | None:
    if mask is None:
        return None
    return cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)


def _crop_both(sample: Sample, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    height, width = sample.image.shape[:2]
    top, bottom = np.rint(random.uniform(0, 0.08, 2) * height).astype(int)
    left, right = np.rint(random.uniform(0, 0.08, 2) * width).astype(int)
    inside = slice(top, height - bottom), slice(left, width - right)
    return sample.image[inside], None if sample.mask is None else sample.mask[inside]


def _table(rows: Sequence[_Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "patient", "label", "fold"])
    writer.writerows([row.name, row.patient, row.label, row.fold] for row in rows)
    return text.getvalue()


def main() -> int:
    """Writes a planted set, or checks an audit of one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images and masks, or a data set's description")
    parser.add_argument("--out", type=Path, required=True, help="the planted set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20, help="mistakes of each kind (default 20)")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--check", type=Path, help="audit.json of the planted set")
    arguments = parser.parse_args()
    try:
        if arguments.check is None:
            if arguments.data is None:
                parser.error("--data is needed to plant, --check to count what was found")
            kinds = write_planted(arguments.data, arguments.out, arguments.seed, arguments.count, arguments.overwrite)
            print("\n".join(f"{kind:22s} {len(ids)}" for kind, ids in kinds.items()))
            return 0
        told = read_json(arguments.out / _REPORT, DataError, "Plant a set first.")
        result = check_audit(told, read_json(arguments.check, DataError, "Audit the planted set first."))
    except UstoolkitError as problem:
        print(problem, file=sys.stderr)
        return 2
    for kind, share in result["recall"].items():
        print(f"{kind:22s} {share:6.1%}  {', '.join(result['missed'][kind])}")
    for title, names in result["false_alarms"].items():
        print(f"false: {title}: {len(names)} of {told['images']} images  {json.dumps(names[:8])}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
