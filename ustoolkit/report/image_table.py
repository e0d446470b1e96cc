"""The table of all images of a page: a row each, what it can be filtered by, and what is told when it is opened."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ustoolkit.data.records import IndexRow
from ustoolkit.evaluation.subgroups import Grouping
from ustoolkit.report.rendering import number, signed
from ustoolkit.report.scores import ImageScore
from ustoolkit.report.subgroup_table import grouping_name

_LONGEST_VALUE = 80  # characters of an attribute


def image_rows(
    scores: Sequence[ImageScore],
    groupings: Sequence[Grouping],
    changes: Mapping[str, float],
    findings: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """A row for each image.

    Args:
        scores: of the images.
        groupings: of the same images; each is one to filter by.
        changes: by source id, how much the Dice is higher with the CRF than without; none where there is none.
        findings: by source id, what an audit says of an image.
    Returns:
        dicts of `score`, `groups` (the group's name in each grouping), `change` (NaN without one), `findings` and
        `note` (what went wrong, '' for nothing).
    """
    return [
        {
            "score": score,
            "groups": [_group_of(grouping, place) for grouping in groupings],
            "change": changes.get(score.source_id, math.nan),
            "findings": findings.get(score.source_id, ()),
            "note": _note(score),
        }
        for place, score in enumerate(scores)
    ]


def filters(groupings: Sequence[Grouping]) -> list[tuple[str, list[str]]]:
    """Name and groups of each grouping that a table is filtered by."""
    return [(grouping_name(grouping), list(grouping.groups)) for grouping in groupings]


def viewer_facts(rows: Sequence[dict[str, Any]], index: Sequence[IndexRow], size_name: str) -> list[dict[str, Any]]:
    """What is told beside an opened image.

    Args:
        rows: as `image_rows` gives them.
        index: of the records.
        size_name: what `ImageScore.size` measures.
    Returns:
        JSON-serialisable dicts of name and facts (names and values) for each row.
    """
    known = {row.source_id: row for row in index}
    return [
        {"name": row["score"].source_id, "facts": _facts(row, known[row["score"].source_id], size_name)} for row in rows
    ]


def _facts(row: dict[str, Any], known: IndexRow, size_name: str) -> list[tuple[str, str]]:
    score: ImageScore = row["score"]
    size, unit = size_name.split(", ")
    facts = [
        ("Note", row["note"]),
        ("Dice", number(score.dice)),
        ("Change by the CRF", "" if math.isnan(row["change"]) else signed(row["change"])),
        ("HD95", "undefined" if math.isnan(score.distance) else f"{number(score.distance, 1)} {score.unit}"),
        ("Sensitivity", number(score.sensitivity)),
        ("Area ratio", number(score.area_ratio, 2)),
        (size[:1].upper() + size[1:], f"{number(score.size, 1)} {unit}"),
        ("Label", score.label),
        ("Patient", score.patient_id),
        *_attributes(known),
        ("Audit", "; ".join(row["findings"])),
    ]
    return [(name, value) for name, value in facts if value]


def _attributes(known: IndexRow) -> list[tuple[str, str]]:
    """Those with a plain, short value; the size of the image is not among them, since the page shows another."""
    plain = {name: value for name, value in known.attributes.items() if isinstance(value, str | int | float | bool)}
    told = [
        (name, ("no", "yes")[value] if isinstance(value, bool) else str(value))
        for name, value in plain.items()
        if name.casefold() not in ("width", "height")
    ]
    return [(name.replace("_", " "), value) for name, value in told if 0 < len(value) <= _LONGEST_VALUE]


def _group_of(grouping: Grouping, place: int) -> str:
    return next(name for name, members in grouping.groups.items() if members[place])


def _note(score: ImageScore) -> str:
    if score.missed:
        return "missed, nothing marked" if math.isnan(score.distance) else "missed, marked elsewhere"
    return "no lesion annotated, one marked" if score.invented else ""
