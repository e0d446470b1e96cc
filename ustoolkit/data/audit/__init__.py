"""What a data set holds and what is wrong with it, before anything is trained on it.

`examine` measures one image in a worker; the other modules look at all findings together. `problems` lists the kinds.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from ustoolkit.data.audit.conflicts import (
    is_clip,
    label_conflicts,
    mask_conflicts,
    patient_conflicts,
    picture_conflicts,
    unknown_images,
)
from ustoolkit.data.audit.dependencies import dependency_cases
from ustoolkit.data.audit.examine import Finding, Row, examine, start_worker
from ustoolkit.data.audit.leave_out import to_leave_out
from ustoolkit.data.audit.loose import loose_files
from ustoolkit.data.audit.masks import TINY_LESION_PIXELS, exif_cases, mask_cases, picture_cases, place_cases
from ustoolkit.data.audit.parts import Parts, find_splits, read_parts
from ustoolkit.data.audit.problems import Case, as_problems
from ustoolkit.data.audit.statistics import by_label, class_statistics, histograms, statistics, statistics_by
from ustoolkit.data.audit.text import cases_text, format_audit, listed, summary_line
from ustoolkit.data.duplicates import find_duplicates, group_duplicates
from ustoolkit.data.leaks import is_made
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import Records
from ustoolkit.errors import DataError
from ustoolkit.processes import available_cores, process_pool
from ustoolkit.progress import progress

__all__ = [
    "TINY_LESION_PIXELS",
    "audit",
    "audit_records",
    "cases_text",
    "format_audit",
    "listed",
    "loose_files",
    "read_parts",
    "summary_line",
    "to_leave_out",
]

_CHUNK = 16  # images a message to a worker


class _Copies(NamedTuple):
    """Images of one picture, how they were changed ('' for copies to the pixel), and how alike the least alike are."""

    members: list[Finding]
    change: str
    similarity: float


def audit(
    entries: Sequence[Entry],
    labels: Sequence[str],
    workers: int = 0,
    classes: Sequence[str] = (),
    splits: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, Any]:
    """Reads every image and mask once, counts what is there, and names what cannot be right.

    Args:
        entries: what a reader found.
        labels: the image labels that have an index.
        workers: processes; 0 for one a core.
        classes: names of the mask values 0, 1, …
        splits: source ids by part; None to go by attributes such as 'Fold'.
    Returns:
        JSON-serialisable: the `statistics` of all images, the same `by` label and device, `by_label` counts, `classes`
        of pixels, `histograms`, the names of `splits` and their parts, `duplicates` (images of one picture, and which
        to `keep`), the `refused` images with their reasons, and `problems`; see `problems.as_problems`.
    Raises:
        DataError: no image at all can be read.
    """
    findings = _examine_all(entries, workers)
    read = [finding for finding in findings if not finding.refused]
    refused = [{"source_id": item.source_id, "reason": item.refused} for item in findings if item.refused]
    if not read:
        reasons = "\n  ".join(item["reason"] for item in refused[:5])
        raise DataError(f"no image could be read; the first reasons:\n  {reasons}")
    divided = find_splits(read, splits)
    copies = _copies(read)
    cases = chain(
        (case for row in read for case in chain(place_cases(row), picture_cases(row))),
        (case for group in copies for case in mask_conflicts(group.members)),
        _cases(read, labels, [(group.members, group.change) for group in copies], divided),
    )
    return {
        **statistics(read),
        "refused": refused,
        "by_label": by_label(read),
        "colour_images": sum(item.channels == 3 for item in read),
        "classes": class_statistics(read, classes),
        "by": statistics_by(read),
        "histograms": histograms(read),
        "splits": {name: sorted(set().union(*parts.values())) for name, parts in divided.items()},
        "duplicates": [_as_duplicates(group) for group in copies],
        "problems": as_problems(cases),
    }


def audit_records(records: Records, splits: Mapping[str, Iterable[str]] | None = None) -> list[dict[str, Any]]:
    """What is wrong with records, by their index alone: without reading an image.

    Args:
        records: opened.
        splits: source ids by part; None to go by attributes such as 'Fold'.
    Returns:
        problems, the worst first; see `problems.as_problems`. Those that need pixels (boxes, calipers, text) are left
        to `audit`.
    """
    rows = records.index
    by_picture = defaultdict(list)
    for row in rows:
        if not is_made(row):  # an augmented copy is meant to resemble its image
            by_picture[row.duplicate_group or row.sha256].append(row)
    groups = [(members, "") for picture, members in by_picture.items() if picture and len(members) > 1]
    return as_problems(_cases(rows, records.manifest.get("labels", []), groups, find_splits(rows, splits)))


def _cases(
    rows: Sequence[Row],
    labels: Sequence[str],
    groups: Iterable[tuple[Sequence[Row], str]],
    splits: Mapping[str, Parts],
) -> Iterable[Case]:
    """What can be told of findings and of index rows alike."""
    yield from (case for group, change in groups for case in picture_conflicts(group, change, splits))
    yield from patient_conflicts(rows, splits)
    yield from (case for row in rows for case in label_conflicts(row, labels))
    yield from dependency_cases(rows)
    yield from unknown_images(rows, splits)
    yield from (case for row in rows for case in chain(mask_cases(row), exif_cases(row)))


def _examine_all(entries: Sequence[Entry], workers: int) -> list[Finding]:
    workers = min(workers or available_cores(), max(1, len(entries) // 64))
    if workers == 1:
        return [examine(entry) for entry in progress(entries, "inspecting")]
    with process_pool(workers, start_worker) as pool:
        results = pool.map(examine, entries, chunksize=_CHUNK)
        return [_shared(finding) for finding in progress(results, "inspecting", total=len(entries))]


def _shared(finding: Finding) -> Finding:
    """The finding with one copy of each attribute's name and value for all images: a tenth of the memory."""
    for name, value in list(finding.attributes.items()):
        finding.attributes[sys.intern(name)] = sys.intern(value) if type(value) is str else value
    return finding


def _copies(read: Sequence[Finding]) -> list[_Copies]:
    pairs = find_duplicates([item.fingerprint for item in read], [item.sha256 for item in read])
    groups = group_duplicates(len(read), pairs)
    group_of = {member: number for number, members in enumerate(groups) for member in members}
    similarity = [1.0] * len(groups)
    changes: list[set[str]] = [set() for _ in groups]
    for pair in pairs:
        number = group_of[pair.first]
        similarity[number] = min(similarity[number], pair.similarity)
        if not pair.exact:
            changes[number].add(pair.change)
    return [
        _Copies([read[member] for member in members], ", ".join(sorted(changes[number])), similarity[number])
        for number, members in enumerate(groups)
        if len(members) > 1
    ]


def _as_duplicates(copies: _Copies) -> dict[str, Any]:
    annotated = [item for item in copies.members if item.lesion_fraction is not None]
    best = next((item for item in annotated if item.label), (annotated or copies.members)[0])
    contradicting = len({item.label for item in copies.members if item.label}) > 1
    return {
        "source_ids": [item.source_id for item in copies.members],
        "exact": len({item.sha256 for item in copies.members}) == 1,
        "similarity": round(float(copies.similarity), 4),
        "change": copies.change,
        "clip": is_clip(copies.members),
        "keep": "" if contradicting else best.source_id,
    }
