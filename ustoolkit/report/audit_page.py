"""An audit as one page: what is wrong, shown on the images themselves, and what the data set holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ustoolkit.data.audit import summary_line
from ustoolkit.data.audit.examine import box_edges
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.files import new_folder, write_json, write_text
from ustoolkit.inference.overlay import TRUTH_COLOUR, draw_overlay
from ustoolkit.report.audit_figures import spread_plot
from ustoolkit.report.figures import SERIES
from ustoolkit.report.rendering import css, picture_address, render_page

PAGE_FILE, RESULT_FILE = "audit.html", "audit.json"
MOST_CASES = {"error": 12, "warning": 8, "notice": 4}  # shown of each kind
MOST_IMAGES = 150  # shown in all: some 2 MB
_MOST_IN_CASE = 6
_MOST_NAMED = 500
_LONGEST_SIDE = 240  # pixels
_JPEG_QUALITY = 80
_BOX_COLOUR = (255, 214, 64)
_OF_BOXES = ("mask misses the lesion's box", "mask outside the scan")


def write_audit(result: dict[str, Any], entries: Sequence[Entry], out: Path | str, overwrite: bool = False) -> Path:
    """Writes a folder with an audit as `audit.json` and as a page, `audit.html`, that needs nothing beside it.

    The page holds images of the data set: as confidential as they are. Only those shown are read again.

    Args:
        result: of `audit`, with the `name` and `format` of the data set.
        entries: what was audited.
        out: the folder to make.
        overwrite: whether an older audit there may be replaced.
    Returns:
        the page's path.
    Raises:
        OutputError: the folder cannot be written, or holds something else.
    """
    with new_folder(out, overwrite, owned_by=RESULT_FILE) as folder:
        write_json(folder / RESULT_FILE, result)
        write_text(folder / PAGE_FILE, audit_page(result, entries))
    return Path(out) / PAGE_FILE


def audit_page(result: dict[str, Any], entries: Sequence[Entry]) -> str:
    """The page of an audit, as HTML; see `write_audit`."""
    chosen = _chosen_cases(result["problems"])
    wanted = {name for cases in chosen.values() for case in cases for name in case["source_ids"][:_MOST_IN_CASE]}
    boxed = {name for kind in _OF_BOXES for case in chosen.get(kind, ()) for name in case["source_ids"]}
    pictures = _pictures(wanted, boxed, entries)
    problems = [
        {**problem, "shown": [_with_pictures(case, pictures) for case in chosen[problem["kind"]]]}
        for problem in result["problems"]
    ]
    return render_page(
        PAGE_FILE,
        middle=_middle,
        range_of=_range,
        result=result,
        name=result.get("name") or "data set",
        format=result.get("format", ""),
        summary=summary_line(result),
        counts={key: sum(item["severity"] == key for item in problems) for key in MOST_CASES},
        problems=problems,
        plots=_plots(result["histograms"]),
        pictures_shown=len(pictures),
        boxes_shown=bool(boxed),
        most_named=_MOST_NAMED,
        colours={"mask": css(TRUTH_COLOUR), "box": css(_BOX_COLOUR)},
    )


def _chosen_cases(problems: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The cases to show of each kind, the worst kinds first, until the page is full."""
    left = MOST_IMAGES
    chosen: dict[str, list[dict[str, Any]]] = {}
    for problem in problems:
        chosen[problem["kind"]] = []
        for case in problem["details"][: MOST_CASES[problem["severity"]]]:
            left -= min(len(case["source_ids"]), _MOST_IN_CASE)
            if left < 0:
                break
            chosen[problem["kind"]].append(case)
    return chosen


def _pictures(wanted: set[str], boxed: set[str], entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    pictures = {}
    for entry in entries:
        if entry.source_id in wanted:
            try:
                pictures[entry.source_id] = _picture(entry.load(), entry.source_id in boxed)
            except DataError:
                continue  # it has changed since it was audited; it is named all the same
    return pictures


def _with_pictures(case: dict[str, Any], pictures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    names = case["source_ids"][:_MOST_IN_CASE]
    return {
        "text": case["text"],
        "more": len(case["source_ids"]) - len(names),
        "images": [{"source_id": name, **pictures.get(name, {"address": "", "caption": ""})} for name in names],
    }


def _picture(sample: Sample, boxed: bool) -> dict[str, Any]:
    """An image at the size shown with the mask's outline and, where it matters, the boxes, and what is told below."""
    height, width = sample.image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    image = image[..., np.newaxis] if image.ndim == 2 else image
    mask = None if sample.mask is None else cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST)
    canvas = draw_overlay(image, None, mask, thickness=1)
    for name in ("lesion_box", "field_of_view") if boxed else ():
        if edges := box_edges(sample.attributes.get(name)):
            left, top, right, bottom = (round(edge * scale) for edge in edges)
            cv2.rectangle(canvas, (left, top), (right, bottom), _BOX_COLOUR, 1)
    patient = f"patient {sample.patient_id}" if sample.patient_id != sample.source_id else ""
    return {
        "address": picture_address(canvas, _JPEG_QUALITY),
        "width": size[0],
        "height": size[1],
        "caption": " · ".join(filter(None, [sample.label, patient, "" if sample.mask is not None else "no mask"])),
    }


def _plots(histograms: dict[str, Any]) -> list[dict[str, Any]]:
    plots = []
    for quantity, histogram in histograms.items():
        for key, counts in histogram["by"].items():
            plots.append(
                {
                    "title": f"{histogram['name']} by {key}",
                    "svg": spread_plot(histogram, counts, f"{quantity.replace('_', '-')}-{key}"),
                    "legend": list(enumerate(counts, start=1))[:SERIES],
                    "left_out": max(0, len(counts) - SERIES),
                }
            )
    return plots


def _middle(spread: dict[str, float], digits: int = 0) -> str:
    return f"{spread['median']:,.{digits}f}" if spread else "–"


def _range(spread: dict[str, float], factor: float = 1) -> str:
    if not spread:
        return "–"
    return f"{factor * spread['median']:.3g} ({factor * spread['smallest']:.3g}–{factor * spread['largest']:.3g})"
