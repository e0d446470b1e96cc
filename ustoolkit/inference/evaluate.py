"""Scores of a trained run on one part of its records, or on another hospital's."""

from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import Any

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import part_of
from ustoolkit.errors import RecordsError
from ustoolkit.evaluation.tables import evaluate_image, write_tables
from ustoolkit.files import new_folder, safe_name, write_bytes
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.segmenter import RunSegmenter
from ustoolkit.progress import progress
from ustoolkit.run import Run


def evaluate_run(run: Run, records: Records, part: str = "test", largest_component: bool | None = None) -> Path:
    """Segments a part, compares it with the truth at each image's own size, and writes tables and masks.

    Args:
        run: a trained run.
        records: its own records, or others.
        part: 'train', 'validation', 'test' or 'all'. Of records that the run was not trained on only 'all' is known.
        largest_component: whether to keep the largest region only; None for what the recipe says.
    Returns:
        the folder with metrics.json, per_image.csv and masks/, in `run.evaluation`.
    Raises:
        RunError: the run has no weights.
        RecordsError: the part has no annotated image, or other records hold images that the run was trained on.
    """
    own = records.digest == run.manifest["digest"]
    source_ids = _chosen(run, records, part, own)
    segmenter = RunSegmenter(run)
    inference = run.recipe.inference
    if largest_component is not None:
        inference = inference.model_copy(update={"largest_component": largest_component})
    name = part if own else f"{records.folder.resolve().name}-{records.digest[:8]}-{part}"
    if inference.largest_component != run.recipe.inference.largest_component:
        name += "-all-components" if run.recipe.inference.largest_component else "-largest-component"
    target = run.evaluation(name)
    settings = {
        "records": str(records.folder.resolve()),
        "records_digest": records.digest,
        "part": part,
        "own_records": own,
        **inference.model_dump(mode="json"),
    }
    rows: list[dict[str, Any]] = []
    with new_folder(target, overwrite=True) as folder:
        samples, kept = tee(records.read(source_ids))
        probabilities = segmenter.probabilities(sample.image for sample in samples)
        pairs = zip(kept, probabilities, strict=True)
        for sample, probability in progress(pairs, "evaluating", total=len(source_ids)):
            mask = to_mask(probability, inference)
            write_bytes(folder / "masks" / f"{safe_name(sample.source_id)}.png", encode_png(mask))
            rows.extend(_rows(sample, mask, segmenter.classes))
        write_tables(folder, rows, settings)
    return target


def _rows(sample: Sample, mask: Any, classes: list[str]) -> Iterator[dict[str, Any]]:
    identity = {"source_id": sample.source_id, "patient_id": sample.patient_id, "label": sample.label}
    for row in evaluate_image(sample.mask, mask, classes, sample.spacing_mm):
        yield {**identity, **row}


def _chosen(run: Run, records: Records, part: str, own: bool) -> list[str]:
    """The annotated images of a part, in the order of the records."""
    wanted = part_of(run.splits, part)
    if not own:
        if part != "all":
            raise RecordsError(
                f"{records.folder}: these are not the records that {run.folder} was trained on, so it has no '{part}' "
                "part there. Use --split all."
            )
        _check_unseen(run, records)
    if records.classes != run.classes:
        raise RecordsError(
            f"{records.folder}: expected the classes {', '.join(run.classes)}, found {', '.join(records.classes)}. "
            "Convert the data set with the classes that the run was trained on."
        )
    names = None if wanted is None else set(wanted)
    chosen = [
        row.source_id
        for row in records.index
        if row.lesion_fraction is not None and (names is None or row.source_id in names)
    ]
    if not chosen:
        raise RecordsError(f"{records.folder}: the part '{part}' has no annotated image. Choose another --split.")
    return chosen


def _check_unseen(run: Run, records: Records) -> None:
    trained_on = run.trained_on
    shared = [row.source_id for row in records.index if row.sha256 in trained_on]
    if shared:
        raise RecordsError(
            f"{records.folder}: {len(shared)} images are the same as images that {run.folder} was trained on "
            f"({', '.join(shared[:3])}, …); their scores would say nothing. Leave them out of these records."
        )
