"""What a data set knows of each image beside its label, such as device or finding, as a line to read."""

from collections.abc import Sequence

from ustoolkit.data.records import IndexRow
from ustoolkit.evaluation.subgroups import LABEL, SIZE, UNKNOWN, ImageFacts, subgroups
from ustoolkit.report.subgroup_table import grouping_name


def attribute_texts(rows: Sequence[IndexRow]) -> dict[str, str]:
    """The attributes that divide some images, as 'BI-RADS 4 · Device GE', by source id; '' where none is known.

    Args:
        rows: of the images' records.
    """
    facts = [ImageFacts(row.label, row.lesion_fraction, row.attributes) for row in rows]
    known: list[list[str]] = [[] for _ in rows]
    for grouping in subgroups(facts):
        if grouping.name in (LABEL, SIZE):
            continue
        for value, members in grouping.groups.items():
            for place in members.nonzero()[0] if value != UNKNOWN else ():
                known[place].append(f"{grouping_name(grouping)} {value}")
    return {row.source_id: " · ".join(words) for row, words in zip(rows, known, strict=True)}
