"""Scores by group: label, size of the lesion, and whatever else the data set knew of its images."""

from collections.abc import Iterable, Sequence
from typing import Any

from ustoolkit.data.records import IndexRow
from ustoolkit.evaluation.subgroups import Grouping, ImageFacts, subgroups
from ustoolkit.report.scores import ImageScore, group_row

_SPELLED_OUT = {"label": "Label", "size": "Lesion size", "birads": "BI-RADS", "device": "Device", "side": "Side"}


def image_groupings(scores: Sequence[ImageScore], index: Iterable[IndexRow]) -> list[Grouping]:
    """Ways to divide the images, by label, size and attributes; see `evaluation.subgroups.subgroups`.

    Args:
        scores: of the images.
        index: of their records.
    """
    known = {row.source_id: row for row in index}
    rows = [known[score.source_id] for score in scores]
    return subgroups([ImageFacts(row.label, row.lesion_fraction, row.attributes) for row in rows])


def subgroup_tables(scores: Sequence[ImageScore], groupings: Sequence[Grouping]) -> list[dict[str, Any]]:
    """The scores of each group.

    Args:
        scores: of the images.
        groupings: of the same images.
    Returns:
        a dict of name and rows (see `group_row`) for each grouping.
    """
    return [
        {
            "name": grouping_name(grouping),
            "rows": [
                group_row(name, [score for score, member in zip(scores, members, strict=True) if member])
                for name, members in grouping.groups.items()
            ],
        }
        for grouping in groupings
    ]


def grouping_name(grouping: Grouping) -> str:
    """What a grouping is called on the page."""
    name = grouping.name
    return _SPELLED_OUT.get(name.casefold(), name[:1].upper() + name[1:].replace("_", " "))
