"""What must not be divided: a patient, a picture and its doubles; and what was made from training images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ustoolkit.data.records import IndexRow
from ustoolkit.errors import RecordsError

_LISTED = 3


@dataclass(frozen=True)
class Leak:
    """Images that belong together, or to training alone, and are where they must not be.

    Attributes:
        kind: 'patient', 'picture' (equal pixels), 'near duplicate', or 'made' (an augmented or synthetic image that
            is validated or tested on).
        name: the patient, or the first of the images.
        parts: source ids by part, sorted.
    """

    kind: str
    name: str
    parts: dict[str, list[str]]

    def __str__(self) -> str:
        """One line that names the images."""
        places = [f"{_named(ids)} in '{part}'" for part, ids in self.parts.items()]
        if self.kind == "patient":
            return f"patient '{self.name}' is in both {' and '.join(map(repr, self.parts))} ({'; '.join(places)})"
        if self.kind == "made":
            return f"{' and '.join(places)}: made from training images, for training alone"
        same = "the same picture" if self.kind == "picture" else "nearly the same picture"
        return f"{' and '.join(places)} are {same}"


def find_leaks(splits: Mapping[str, Iterable[str]], index: Iterable[IndexRow]) -> list[Leak]:
    """Every patient, picture and group of near-duplicates that a split divides; none for a split as it should be.

    Args:
        splits: source ids by part, each in the index.
        index: the records' index.
    Returns:
        in the order of kinds and names. What is wrong for two reasons is named for the first.
    """
    part_of = {source_id: part for part, ids in splits.items() for source_id in ids}
    rows = sorted((row for row in index if row.source_id in part_of), key=lambda row: row.source_id)
    keys = {
        "patient": lambda row: row.patient_id,
        "picture": lambda row: row.sha256,
        "near duplicate": lambda row: "" if is_made(row) else row.duplicate_group,
    }
    leaks: list[Leak] = []
    told: set[frozenset[str]] = set()
    for kind, key in keys.items():
        members: dict[str, dict[str, list[str]]] = {}
        for row in rows:
            if key(row):
                members.setdefault(key(row), {}).setdefault(part_of[row.source_id], []).append(row.source_id)
        for name, parts in members.items():
            ids = sorted(source_id for found in parts.values() for source_id in found)
            if len(parts) > 1 and frozenset(ids) not in told:
                told.add(frozenset(ids))
                in_order = {part: parts[part] for part in splits if part in parts}
                leaks.append(Leak(kind, name if kind == "patient" else ids[0], in_order))
    made = {row.source_id for row in rows if is_made(row)}
    for part in splits:
        wrong = sorted(source_id for source_id in made if part_of[source_id] == part != "train")
        if wrong:
            leaks.append(Leak("made", wrong[0], {part: wrong}))
    return leaks


def check_splits(splits: Mapping[str, list[str]], index: Iterable[IndexRow], allow_leak: bool = False) -> list[Leak]:
    """Checks that no picture, near-duplicate or patient is in two parts, and that every image named exists.

    Args:
        splits: source ids by part.
        index: the records' index.
        allow_leak: whether to return what is divided instead of refusing it.
    Returns:
        what is divided; none where all is well.
    Raises:
        RecordsError: naming the images.
    """
    rows = {row.source_id: row for row in index}
    seen: set[str] = set()
    for source_ids in splits.values():
        for source_id in source_ids:
            if source_id not in rows:
                raise RecordsError(f"splits: '{source_id}' is not in the records. Split again with 'ustoolkit split'.")
            if source_id in seen:
                raise RecordsError(f"splits: '{source_id}' is named twice. Split again with 'ustoolkit split'.")
            seen.add(source_id)
    leaks = find_leaks(splits, rows.values())
    if leaks and not allow_leak:
        raise RecordsError(
            f"splits: {listed_leaks(leaks)}. That would test on what was trained on. Split again with 'ustoolkit "
            "split', leave these images out of the data set, or say --allow-leak and have every result marked."
        )
    return leaks


def listed_leaks(leaks: Sequence[Leak], most: int = 5) -> str:
    """The first few leaks in words, and how many there are."""
    more = f"; … ({len(leaks)} such cases)" if len(leaks) > most else ""
    return "; ".join(str(leak) for leak in leaks[:most]) + more


def is_made(row: IndexRow) -> bool:
    """Whether an image was made from training images: an augmented copy, or a synthetic one."""
    return "expanded_from" in row.attributes or bool(row.attributes.get("synthetic"))


def groups(rows: Iterable[IndexRow]) -> dict[str, str]:
    """What stays together: patients who share a picture, or nearly the same one, directly or through others.

    Args:
        rows: the whole index, images without a mask too, since they join patients as well.
    Returns:
        a group's name for each patient id.
    """
    rows = list(rows)
    parent = {row.patient_id: row.patient_id for row in rows}

    def root(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = patient = parent[parent[patient]]
        return patient

    owner: dict[tuple[str, str], str] = {}
    for row in rows:
        for key in (("picture", row.sha256), ("group", row.duplicate_group)):
            if key[1]:
                ends = sorted((root(row.patient_id), root(owner.setdefault(key, row.patient_id))))
                parent[ends[1]] = ends[0]  # the lesser name, so that the order of the rows does not matter
    return {patient: root(patient) for patient in parent}


def _named(source_ids: list[str]) -> str:
    more = f", … ({len(source_ids)})" if len(source_ids) > _LISTED else ""
    return ", ".join(f"'{source_id}'" for source_id in source_ids[:_LISTED]) + more
