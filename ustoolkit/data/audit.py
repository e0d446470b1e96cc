"""What a data set holds and what is wrong with it, before anything is trained on it."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.example import pixel_digest
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.sample import count_regions
from ustoolkit.errors import DataError
from ustoolkit.progress import progress

TINY_LESION_PIXELS = 20  # smaller regions are slips of the pen more often than lesions
_LISTED = 5


@dataclass(frozen=True)
class _Finding:
    source_id: str
    patient_id: str = ""
    label: str = ""
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    spacing_mm: tuple[float, float] | None = None
    mean_intensity: float = 0.0
    lesion_fraction: float | None = None
    mask_problem: str = ""
    sha256: str = ""
    refused: str = ""


def audit(entries: Sequence[Entry], labels: Sequence[str], workers: int = 0) -> dict[str, Any]:
    """Reads every image and mask once and counts what is there.

    Args:
        entries: what a reader found.
        labels: the image labels that have an index.
        workers: processes; 0 for one a core.
    Returns:
        JSON-serialisable: counts, sizes (pixels), spacing (mm), lesion size (share of the image) by label, and
        `problems`, each with its kind, the source ids, and the remedy.
    """
    workers = min(workers or os.cpu_count() or 1, max(1, len(entries) // 64))
    if workers == 1:
        findings = [_examine(entry) for entry in progress(entries, "inspecting")]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            results = pool.map(_examine, entries, chunksize=16)
            findings = list(progress(results, "inspecting", total=len(entries)))
    read = [finding for finding in findings if not finding.refused]
    return {
        "images": len(read),
        "refused": [{"source_id": item.source_id, "reason": item.refused} for item in findings if item.refused],
        "patients": len({item.patient_id for item in read}),
        "annotated": sum(item.lesion_fraction is not None for item in read),
        "by_label": dict(sorted(Counter(item.label or "(none)" for item in read).items())),
        "colour_images": sum(item.channels == 3 for item in read),
        "height": _spread([item.size[0] for item in read]),
        "width": _spread([item.size[1] for item in read]),
        "mean_intensity": _spread([item.mean_intensity for item in read]),
        "spacing_row_mm": _spread([item.spacing_mm[0] for item in read if item.spacing_mm]),
        "lesion_fraction": _spread([item.lesion_fraction for item in read if item.lesion_fraction is not None]),
        "lesion_fraction_by_label": _by_label(read),
        "problems": _problems(read, labels),
    }


def loose_files(root: Path, entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Image files under a folder that are no part of the data set (a table does not name them), and masks of no image.

    Args:
        root: the folder.
        entries: what a reader found there.
    Returns:
        relative paths, under 'images' and 'masks'.
    """
    known = {entry.source_id for entry in entries}
    pairs, orphans = pair_masks(root)
    relative = [path.relative_to(root) for path in pairs]
    images = [path for path in relative if path.stem not in known and path.with_suffix("").as_posix() not in known]
    return {"images": [str(path) for path in images], "masks": [str(path.relative_to(root)) for path in orphans]}


def format_audit(result: dict[str, Any]) -> str:
    """The audit as text for a terminal."""
    labels = ", ".join(f"{label} {count}" for label, count in result["by_label"].items())
    lines = [
        f"images      {result['images']} of {result['patients']} patients, {result['annotated']} with a mask",
        f"labels      {labels}",
        f"height      {_text(result['height'], 'pixels')}",
        f"width       {_text(result['width'], 'pixels')}",
        f"spacing     {_text(result['spacing_row_mm'], 'mm a pixel', 3)}",
        f"lesion      {_text(result['lesion_fraction'], 'of the image', 3)}",
    ]
    lines.extend(f"! {item['kind']}: {listed(item['source_ids'])}. {item['remedy']}" for item in result["problems"])
    lines.extend(f"! refused: {item['reason']}" for item in result["refused"])
    if not result["problems"] and not result["refused"]:
        lines.append("no problems found")
    return "\n".join(lines)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are in all."""
    more = f", … ({len(names)} in all)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _examine(entry: Entry) -> _Finding:
    try:
        sample = entry.load()
    except DataError as problem:
        return _Finding(entry.source_id, refused=str(problem))
    return _Finding(
        source_id=entry.source_id,
        patient_id=sample.patient_id,
        label=sample.label,
        size=sample.image.shape[:2],
        channels=sample.image.shape[2],
        spacing_mm=sample.spacing_mm,
        mean_intensity=float(sample.image.mean()),
        lesion_fraction=None if sample.mask is None else float(np.mean(sample.mask > 0)),
        mask_problem=_mask_problem(sample.mask),
        sha256=pixel_digest(sample.image),
    )


def _mask_problem(mask: np.ndarray | None) -> str:
    if mask is None:
        return "no mask"
    lesion = mask > 0
    if not lesion.any():
        return "empty mask"
    if lesion.all():
        return "mask covers the whole image"
    if np.count_nonzero(lesion) < TINY_LESION_PIXELS:
        return "tiny mask"
    return "mask in several pieces" if count_regions(mask) > 1 else ""


_REMEDIES = {
    "no mask": "These are not trained on; draw a mask, or leave them to be predicted.",
    "empty mask": "Right for an image without lesion; otherwise draw the mask.",
    "mask covers the whole image": "Check that mask and image are not inverted.",
    "tiny mask": f"Fewer than {TINY_LESION_PIXELS} pixels: check for slips of the pen.",
    "mask in several pieces": "If that is right, train with --set inference.largest_component=false.",
}


def _problems(read: Sequence[_Finding], labels: Sequence[str]) -> list[dict[str, Any]]:
    problems = []
    for kind, remedy in _REMEDIES.items():
        named = [item.source_id for item in read if item.mask_problem == kind]
        if named:
            problems.append({"kind": kind, "source_ids": named, "remedy": remedy})
    unknown = [item.source_id for item in read if item.label and item.label not in labels]
    if unknown:
        found = sorted({item.label for item in read} - {"", *labels})
        remedy = f"'{listed(found)}' is none of {', '.join(labels)}; list it under labels in the description."
        problems.append({"kind": "unknown label", "source_ids": unknown, "remedy": remedy})
    by_picture = defaultdict(list)
    for item in read:
        by_picture[item.sha256].append(item)
    for copies in by_picture.values():
        if len(copies) > 1:
            across = len({item.patient_id for item in copies}) > 1
            kind = "the same picture for different patients" if across else "the same picture twice"
            remedy = "Leave out all but one, else one could be trained on and the other tested on."
            problems.append({"kind": kind, "source_ids": [item.source_id for item in copies], "remedy": remedy})
    return problems


def _by_label(read: Iterable[_Finding]) -> dict[str, dict[str, float]]:
    fractions = defaultdict(list)
    for item in read:
        if item.lesion_fraction is not None:
            fractions[item.label or "(none)"].append(item.lesion_fraction)
    return {label: _spread(values) for label, values in sorted(fractions.items())}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    low, median, high = np.percentile(values, [0, 50, 100])
    return {
        "smallest": round(float(low), 5),
        "median": round(float(median), 5),
        "largest": round(float(high), 5),
    }


def _text(spread: dict[str, float], unit: str, digits: int = 0) -> str:
    if not spread:
        return "unknown"
    low, median, high = (f"{spread[key]:.{digits}f}" for key in ("smallest", "median", "largest"))
    return f"{low} to {high}, median {median} {unit}"
