"""What can be wrong with a mask by itself, and with what lies below it."""

from collections.abc import Iterator

from ustoolkit.data.audit.examine import Finding, Row
from ustoolkit.data.audit.problems import Case

TINY_LESION_PIXELS = 20
"""Smaller masks are slips of the pen more often than lesions."""
LEAST_BOX_OVERLAP = 0.5  # a box drawn by hand around the same lesion shares more with the mask's own
MOST_OUTSIDE_VIEW = 0.5
LEAST_COLOURED = 0.001  # share of the pixels; compression tints fewer
_WITHOUT_LESION = frozenset({"normal", "healthy", "negative", "no finding", "no lesion"})
_KEEPS_SIZE = (2, 3, 4)  # EXIF orientations that mirror a picture or turn it by 180°


def mask_cases(row: Row) -> Iterator[Case]:
    """What the size and the pieces of a mask say."""
    for kind, text in _size_problem(row):
        yield Case(kind, (row.source_id,), text)
    if row.regions > 1:
        yield Case("mask in several pieces", (row.source_id,), f"{row.regions} pieces")


def place_cases(finding: Finding) -> Iterator[Case]:
    """Whether a mask lies where other sources say that the lesion is."""
    names = (finding.source_id,)
    if finding.box_overlap is not None and finding.box_overlap < LEAST_BOX_OVERLAP:
        yield Case("mask misses the lesion's box", names, f"overlap {finding.box_overlap:.2f}")
    if finding.outside_view is not None and finding.outside_view > MOST_OUTSIDE_VIEW:
        yield Case("mask outside the scan", names, f"{finding.outside_view:.0%} outside")


def exif_cases(row: Row) -> Iterator[Case]:
    """Photos that were turned; the mask of one whose size does not change may have been drawn either way up."""
    orientation = row.attributes.get("exif_orientation", 1)
    if orientation == 1:
        return
    blind = orientation in _KEEPS_SIZE or row.height == row.width
    kind = "photo turned by EXIF"
    if blind and row.lesion_fraction:
        kind = "photo turned by EXIF, mask may be upside down"
    yield Case(kind, (row.source_id,), f"orientation {orientation}")


def picture_cases(finding: Finding) -> Iterator[Case]:
    """What is drawn over the picture, or that there is none."""
    names, drawn = (finding.source_id,), finding.overlays
    if finding.uniform:
        yield Case("uniform image", names, f"grey value {finding.mean_intensity:.0f}")
    if drawn.calipers:
        yield Case("calipers", names, f"{drawn.calipers} cross{'es' if drawn.calipers > 1 else ''}")
    if drawn.text_regions:
        yield Case("text", names, f"{drawn.text_regions} line{'s' if drawn.text_regions > 1 else ''}")
    if drawn.coloured_fraction >= LEAST_COLOURED:
        yield Case("coloured pixels", names, f"{drawn.coloured_fraction:.1%} of the pixels")


def _size_problem(row: Row) -> Iterator[tuple[str, str]]:
    if row.lesion_fraction is None:
        yield "no mask", ""
        return
    pixels = round(row.lesion_fraction * row.height * row.width)
    if not pixels:
        if row.label.lower() not in _WITHOUT_LESION:
            yield "empty mask", f"labelled {row.label}" if row.label else ""
    elif pixels == row.height * row.width:
        yield "mask covers the whole image", ""
    elif pixels < TINY_LESION_PIXELS:
        yield "tiny mask", f"{pixels} pixels"
