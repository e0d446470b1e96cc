"""Where the tissue lies in a DICOM ultrasound image, and how large its pixels are."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ustoolkit.data.readers.dicom_files import integer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CENTIMETRES = 3
_LARGEST_SPACING_MM = 100
_MOST_REGIONS = 64
_NUMBERS = {
    "spatial_format": "RegionSpatialFormat",
    "data_type": "RegionDataType",
    "physical_units_x": "PhysicalUnitsXDirection",
    "physical_units_y": "PhysicalUnitsYDirection",
}


def ultrasound_regions(header: "Dataset") -> list[dict[str, Any]]:
    """What the file says of the parts of its picture (DICOM PS3.3 C.8.5.5).

    Returns:
        one a region: `box` [x, y, width, height] in pixels; `spatial_format` (1: 2D), `data_type` (1: tissue),
        `physical_units_x` and `_y` (3: cm) by DICOM's numbers; `physical_delta` [x, y], in those units a pixel.
    """
    regions = []
    for item in (header.get("SequenceOfUltrasoundRegions") or [])[:_MOST_REGIONS]:
        left, top = integer(item, "RegionLocationMinX0"), integer(item, "RegionLocationMinY0")
        right, bottom = integer(item, "RegionLocationMaxX1"), integer(item, "RegionLocationMaxY1")
        regions.append(
            {
                "box": [left, top, right - left + 1, bottom - top + 1],
                **{name: integer(item, keyword) for name, keyword in _NUMBERS.items()},
                "physical_delta": [_number(item.get("PhysicalDeltaX")), _number(item.get("PhysicalDeltaY"))],
            }
        )
    return regions


def tissue_region(regions: Sequence[dict[str, Any]], height: int, width: int) -> dict[str, Any] | None:
    """The largest region of 2D tissue, None where there is none.

    A region that reaches over both the right and the lower edge tells that the picture was made smaller after the
    region was written: it says nothing of this picture any more, and is left out. Over one edge, it was cropped.

    Args:
        regions: of the picture.
        height, width: of the picture, pixels.
    """
    fitting = [
        region
        for region in regions
        if _is_tissue(region) and field_of_view(region, height, width) and not _is_outgrown(region, height, width)
    ]
    return max(fitting, key=lambda region: region["box"][2] * region["box"][3], default=None)


def field_of_view(region: dict[str, Any], height: int, width: int) -> list[int]:
    """A region's [x, y, width, height] in pixels, within the picture; empty where it lies outside."""
    left, top = max(0, region["box"][0]), max(0, region["box"][1])
    right, bottom = min(width, region["box"][0] + region["box"][2]), min(height, region["box"][1] + region["box"][3])
    return [left, top, right - left, bottom - top] if left < right and top < bottom else []


def pixel_spacing(
    header: "Dataset", regions: Sequence[dict[str, Any]], height: int, width: int
) -> tuple[float, float] | None:
    """(row, column) distance of pixels in millimetres: the tissue's where it is in centimetres, else the file's.

    Args:
        header: the file's description.
        regions: of the picture.
        height, width: of the picture, pixels.
    Returns:
        None where neither says, where what they say is no length, or where tissue was said to lie where no picture is.
    """
    region = tissue_region(regions, height, width)
    if region is None and any(_is_tissue(each) for each in regions):
        return None
    if region and region["physical_units_x"] == region["physical_units_y"] == _CENTIMETRES:
        across, down = region["physical_delta"]
        spacing = _lengths([10 * abs(down or 0), 10 * abs(across or 0)])
        if spacing:
            return spacing
    for holder in (header, *_measures(header)):
        for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
            spacing = _lengths(holder.get(keyword) or ())
            if spacing:
                return spacing
    return None


def _is_tissue(region: dict[str, Any]) -> bool:
    return region["spatial_format"] == region["data_type"] == 1


def _is_outgrown(region: dict[str, Any], height: int, width: int) -> bool:
    """Whether a region reaches over both far edges, by more than the pixel that a maker may have counted too many."""
    left, top, across, down = region["box"]
    return left + across > width + 1 and top + down > height + 1


def _measures(header: "Dataset") -> list["Dataset"]:
    """The pixel measures that an enhanced multi-frame image keeps for all its frames."""
    groups = header.get("SharedFunctionalGroupsSequence") or []
    return [item for group in groups[:1] for item in (group.get("PixelMeasuresSequence") or [])[:1]]


def _lengths(values: Any) -> tuple[float, float] | None:
    if not hasattr(values, "__len__") or len(values) != 2:
        return None
    row, column = map(_number, values)
    if row is None or column is None or not (0 < row < _LARGEST_SPACING_MM and 0 < column < _LARGEST_SPACING_MM):
        return None
    return row, column


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
