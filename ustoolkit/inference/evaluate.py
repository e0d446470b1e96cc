"""Scores of a trained run on one part of its records, or on another hospital's, without the CRF and with it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import part_of
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.confusion import confusion_matrix
from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.evaluation.tables import evaluate_image, read_rows, write_tables
from ustoolkit.files import new_folder, safe_name, write_bytes
from ustoolkit.inference.crf import with_and_without, with_crf
from ustoolkit.inference.lesion_probability import LONGEST_SIDE, PROBABILITY_FOLDER, lesion_probability
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.progress import progress
from ustoolkit.recipe.settings import InferenceSettings
from ustoolkit.run import Run


def evaluate_run(
    run: Run,
    records: Records,
    part: str = "test",
    largest_component: bool | None = None,
    crf: bool | None = None,
    workers: int = 0,
) -> list[Path]:
    """Segments a part, compares it with the truth at each image's own size, and writes tables and masks.

    With the CRF there are two evaluations, without it and with it, of the same probabilities.

    Args:
        run: a trained run.
        records: its own records, or others.
        part: 'train', 'validation', 'test' or 'all'. Of records that the run was not trained on only 'all' is known.
        largest_component: whether to keep the largest region only; None for what the run says.
        crf: whether to evaluate with the CRF too; None for what the run says.
        workers: processes of the CRF; 0 for one a core.
    Returns:
        the folders with metrics.json, per_image.csv, masks/ and probabilities/ (of any lesion, 8 bits, at the network's
        size or smaller), in `run.evaluation`: first the one without the CRF; where it is on also the one with it,
        called the same with '-crf' at the end.
    Raises:
        RunError: the run has no weights, or a process was ended by the system.
        RecordsError: the part has no annotated image, or other records hold images that the run was trained on.
    """
    own = records.digest == run.manifest["digest"]
    source_ids = _chosen(run, records, part, own)
    segmenter = RunSegmenter(run)
    inference = segmenter.inference
    if largest_component is not None:
        inference = inference.model_copy(update={"largest_component": largest_component})
    name = part if own else f"{records.folder.resolve().name}-{records.digest[:8]}-{part}"
    if inference.largest_component != segmenter.inference.largest_component:
        name += "-largest-component" if inference.largest_component else "-all-components"
    variants = {name: with_crf(inference, False)}
    if with_crf(inference, crf).crf.enabled:
        variants[f"{name}-crf"] = with_crf(inference, True)
    about = {
        "records": str(records.folder.resolve()),
        "records_digest": records.digest,
        "part": part,
        "own_records": own,
        "epoch": run.state.get("best_epoch"),
    }
    longest = min(LONGEST_SIDE, max(run.recipe.data.image_size))
    with ExitStack() as stack:
        evaluations = [
            _Evaluation(stack.enter_context(new_folder(run.evaluation(name), overwrite=True)), settings, longest)
            for name, settings in variants.items()
        ]
        images, images_again, samples = tee(records.read(source_ids), 3)
        probabilities = with_and_without(
            segmenter.probabilities(sample.image for sample in images),
            (sample.image for sample in images_again),
            evaluations[-1].inference.crf,
            workers,
        )
        stack.enter_context(closing(probabilities))
        pairs = zip(samples, probabilities, strict=True)
        for sample, found in progress(pairs, "evaluating", total=len(source_ids)):
            for evaluation, probability in zip(evaluations, found, strict=False):
                if probability is not None:
                    evaluation.add(sample, probability, segmenter.classes)
        for evaluation in evaluations:
            evaluation.write_tables(about)
    return [run.evaluation(name) for name in variants]


def difference_in_dice(without: Path, with_it: Path) -> dict[str, PairedDifference]:
    """What the CRF changes, image by image.

    Args:
        without: folder of the evaluation without the CRF.
        with_it: that of the same images with it.
    Returns:
        for each class the Dice with the CRF less that without, with a 95 % interval over patients. Both are of one run,
        so that the interval says nothing of what another seed would do.
    Raises:
        RunError: a table is missing or damaged, or they are not of the same images.
    """
    first, second = read_rows(without), read_rows(with_it)
    if [(row["source_id"], row["class"]) for row in first] != [(row["source_id"], row["class"]) for row in second]:
        raise RunError(
            f"{with_it}: expected scores of the images that {without} holds, found others. Evaluate the run again."
        )
    differences = {}
    for name in dict.fromkeys(row["class"] for row in first):
        dice = [[row["dice"] for row in rows if row["class"] == name] for rows in (second, first)]
        patients = [row["patient_id"] for row in first if row["class"] == name]
        differences[name] = paired_difference(dice[:1], dice[1:], patients)
    return differences


@dataclass
class _Evaluation:
    """What is collected of one evaluation, image by image."""

    folder: Path
    inference: InferenceSettings
    longest_side: int  # of the probabilities that are kept, pixels
    rows: list[dict[str, Any]] = field(default_factory=list)
    confusion: np.ndarray | None = None

    def add(self, sample: Sample, probability: np.ndarray, classes: list[str]) -> None:
        mask = to_mask(probability, self.inference)
        file_name = f"{safe_name(sample.source_id)}.png"
        write_bytes(self.folder / "masks" / file_name, encode_png(mask))
        kept = lesion_probability(probability, self.longest_side)
        write_bytes(self.folder / PROBABILITY_FOLDER / file_name, encode_png(kept))
        self.rows.extend(_rows(sample, mask, classes))
        counted = confusion_matrix(sample.truth, mask, len(classes))
        self.confusion = counted if self.confusion is None else self.confusion + counted

    def write_tables(self, about: dict[str, Any]) -> None:
        settings = {**about, **self.inference.model_dump(mode="json")}
        write_tables(self.folder, self.rows, settings, confusion=self.confusion)


def _rows(sample: Sample, mask: np.ndarray, classes: list[str]) -> Iterator[dict[str, Any]]:
    identity = {"source_id": sample.source_id, "patient_id": sample.patient_id, "label": sample.label}
    for row in evaluate_image(sample.truth, mask, classes, sample.spacing_mm):
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
