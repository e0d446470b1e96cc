"""The labels that a network learns to tell apart, in their order."""

from collections.abc import Iterable

from ustoolkit.data.records import IndexRow
from ustoolkit.errors import RecordsError


def labels_of(rows: Iterable[IndexRow], positive: str) -> list[str]:
    """The labels of some images: the others in alphabetical order, the positive one last.

    Args:
        rows: of the index.
        positive: the label that counts as positive.
    Raises:
        RecordsError: there is none of it, or no other.
    """
    found = sorted({row.label for row in rows} - {""})
    if positive not in found or len(found) < 2:
        raise RecordsError(
            f"expected images labelled '{positive}' and others, found {', '.join(found) or 'none'}. Name the label to "
            "detect by --set classification.positive=LABEL, or add images of the other."
        )
    return [*(label for label in found if label != positive), positive]
