"""What cannot all be right: pictures, patients and labels that contradict each other."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ustoolkit.data.audit.examine import Finding, Row
from ustoolkit.data.audit.parts import Parts
from ustoolkit.data.audit.problems import Case

_SHOWN = 6


def picture_conflicts(group: Sequence[Row], change: str, splits: Mapping[str, Parts]) -> Iterator[Case]:
    """What is wrong with several images that show one picture.

    Args:
        group: two images or more.
        change: what was done to the copies, such as 'mirrored'; '' for nothing, or where nobody knows.
        splits: the parts of each image, by the split's name.
    """
    names = tuple(row.source_id for row in group)
    labels = {row.label for row in group if row.label}
    divided = {split: parts for split, parts in splits.items() if len(_parts(group, parts)) > 1}
    patients = {row.patient_id for row in group}
    known = [row for row in group if row.patient_id != row.source_id]
    how = f" ({change})" if change else ""
    if len(labels) > 1:
        told = (f"{row.source_id} {row.label}" for row in group)
        yield Case("same picture, different labels", names, _listed(told) + how)
    for split, parts in divided.items():
        told = (f"{row.source_id} {_told(parts.get(row.source_id))}" for row in group)
        yield Case("same picture in different parts", names, f"{split}: {_listed(told)}{how}")
    if len({row.patient_id for row in known}) > 1:
        told = (f"{row.source_id} of {row.patient_id}" for row in group)
        yield Case("same picture, different patients", names, _listed(told) + how)
    elif len(labels) <= 1 and not divided and not is_clip(group):
        kind = "same picture twice" if len(patients) == 1 else "same picture twice, patient unknown"
        yield Case(kind, names, f"{', '.join(names)}{how}" if change else "")


def is_clip(group: Sequence[Row]) -> bool:
    """Whether images of one picture are frames of one patient, which resemble each other as they should."""
    frames = all("frame" in row.attributes for row in group)
    return frames and len({row.patient_id for row in group}) == 1 and len({row.sha256 for row in group}) == len(group)


def mask_conflicts(group: Sequence[Finding]) -> Iterator[Case]:
    """Images that are equal to the pixel and have masks that are not.

    Args:
        group: images that show one picture.
    """
    copies = defaultdict(list)
    for item in group:
        if item.mask_sha256:
            copies[item.sha256].append(item)
    for equal in copies.values():
        if len({item.mask_sha256 for item in equal}) > 1:
            yield Case("same picture, different masks", tuple(item.source_id for item in equal))


def patient_conflicts(rows: Iterable[Row], splits: Mapping[str, Parts]) -> Iterator[Case]:
    """Patients whose images are in two parts, or have different labels."""
    by_patient = defaultdict(list)
    for row in rows:
        by_patient[row.patient_id].append(row)
    for patient, images in by_patient.items():
        for split, parts in splits.items():
            if len(_parts(images, parts)) > 1:
                told = (f"{row.source_id} {_told(parts[row.source_id])}" for row in images if row.source_id in parts)
                names = tuple(row.source_id for row in images if row.source_id in parts)
                yield Case("patient in different parts", names, f"patient {patient}, {split}: {_listed(told)}")
        if len({row.label for row in images if row.label}) > 1:
            told = (f"{row.source_id} {row.label}" for row in images if row.label)
            names = tuple(row.source_id for row in images if row.label)
            yield Case("patient with different labels", names, f"patient {patient}: {_listed(told)}")


def label_conflicts(row: Row, labels: Sequence[str]) -> Iterator[Case]:
    """Labels that nobody listed, or that two sources tell differently.

    Args:
        row: the image.
        labels: those that have an index.
    """
    names = (row.source_id,)
    if row.label and row.label not in labels:
        yield Case("unknown label", names, f"'{row.label}' is none of {', '.join(labels)}")
    if told := row.attributes.get("label_conflict"):
        yield Case("labels contradict each other", names, f"{row.label or 'no label'}, but {_text(told)}")
    if told := row.attributes.get("image_labels"):
        yield Case("image with several labels", names, _text(told))


def unknown_images(rows: Iterable[Row], splits: Mapping[str, Parts]) -> Iterator[Case]:
    """Names in a split that no image has."""
    known = {row.source_id for row in rows}
    for parts in splits.values():
        for name in parts:
            if name not in known:
                yield Case("unknown image in a split", (name,), _told(parts[name]))


def _parts(rows: Iterable[Row], parts: Parts) -> set[str]:
    return set().union(*(parts.get(row.source_id, set()) for row in rows))


def _told(parts: set[str] | None) -> str:
    return " and ".join(sorted(parts)) if parts else "in none"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _listed(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")
