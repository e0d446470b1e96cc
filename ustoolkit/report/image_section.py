"""What the part of a page needs that shows all images: the table, its filters, and what opens on a click."""

from collections.abc import Mapping, Sequence
from typing import Any

from ustoolkit.data.records import Records
from ustoolkit.evaluation.subgroups import Grouping
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.report.cases import LONGEST_SIDE
from ustoolkit.report.crf import ENDING
from ustoolkit.report.image_pictures import image_pictures, longest_side
from ustoolkit.report.image_table import filters, image_rows, viewer_facts
from ustoolkit.report.outlines import SCALE
from ustoolkit.report.scores import ImageScore, image_scores
from ustoolkit.run import Run

_LAYERS = {
    "image": "Image",
    "truth": "Annotated",
    "prediction": "Predicted",
    "both": "Both outlines",
    "difference": "Difference",
    "probability": "Probability",
    "crf": "Without and with CRF",
}
_WITHOUT, _WITH = "predicted without the CRF", "predicted with the CRF"


def image_section(
    run: Run,
    part: str,
    records: Records,
    scores: Sequence[ImageScore],
    size_name: str,
    groupings: Sequence[Grouping],
    crf: Mapping[str, Any] | None,
    findings: Mapping[str, Any],
) -> dict[str, Any]:
    """What `report_images.html` and `image_viewer.html` use.

    Args:
        run: that was evaluated.
        part: the evaluation's name.
        records: that it was made on.
        scores: of its images.
        size_name: what their `size` measures.
        groupings: of the images, to filter by.
        crf: as `compare_crf` gives it.
        findings: as `audit_findings` gives them.
    Returns:
        values by name.
    Raises:
        RunError: a mask or a probability is damaged, or a mask is missing.
        RecordsError: a shard is damaged.
    """
    compared = crf is not None and "rows" in crf
    is_refined = part.endswith(ENDING)
    other = (part.removesuffix(ENDING) if is_refined else part + ENDING) if compared else ""
    changes = _changes(run, records, part.removesuffix(ENDING)) if compared else {}
    rows = image_rows(scores, groupings, changes, findings["by_image"])
    pictures = image_pictures(
        scores, records, run.evaluation(part), len(run.classes), run.evaluation(other) if other else None
    )
    kept = any("probability" in picture for picture in pictures)
    left_out = {name for name, there in (("probability", kept), ("crf", compared)) if not there}
    facts = viewer_facts(rows, records.index, size_name)
    units = {score.unit for score in scores}
    longest = longest_side(len(scores))
    return {
        "image_rows": rows,
        "numbers": {score.source_id: number for number, score in enumerate(scores)},
        "filters": filters(groupings),
        "audit_kinds": [problem["kind"] for problem in findings["problems"] if problem["shown"]],
        "one_unit": min(units) if len(units) == 1 else "",
        "size_heading": "Size, mm" if size_name.endswith("mm") else "Size, %",
        "small_pictures": longest if longest < LONGEST_SIDE else 0,
        "layers": [(name, title) for name, title in _LAYERS.items() if name not in left_out],
        "predicted_name": (_WITH if is_refined else _WITHOUT) if compared else "predicted",
        "other_name": (_WITHOUT if is_refined else _WITH) if compared else "",
        "image_data": {
            "scale": SCALE,
            "images": [{**told, **drawn} for told, drawn in zip(facts, pictures, strict=True)],
        },
        "data_folder": records.folder,
        "run_folder": run.folder,
    }


def _changes(run: Run, records: Records, name: str) -> dict[str, float]:
    """How much the CRF changed each image's Dice; NaN where it is undefined in one of the evaluations."""
    without, refined = (
        image_scores(read_rows(run.evaluation(each)), records.index)[0] for each in (name, name + ENDING)
    )
    return {one.source_id: other.dice - one.dice for one, other in zip(without, refined, strict=True)}
