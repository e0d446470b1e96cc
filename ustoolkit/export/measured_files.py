"""Files other than a SavedModel, each measured on images beside the networks that it was made of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RecordsError
from ustoolkit.export.formats import FORMATS, describe_file
from ustoolkit.export.model_card import model_card
from ustoolkit.export.parity import measure_parity
from ustoolkit.files import write_bytes
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.inference.run_segmenter import GraphSegmenter
from ustoolkit.inference.segmenter import load_segmenter
from ustoolkit.run import Run

_MOST_VALIDATION_IMAGES = 256
_CALIBRATION_IMAGES = 50  # more take longer and change next to nothing


class MeasuredImages:
    """Images of the first of some runs: to calibrate on, and to measure on.

    Attributes:
        part: which images are measured on, in words.
    """

    def __init__(self, runs: Sequence[Run], records: Records | None) -> None:
        """Chooses the images.

        Args:
            runs: one, or the members of an ensemble.
            records: of the first run.
        Raises:
            RecordsError: they are not those of the first run, or its validation part has no annotated image.
        """
        first, *others = runs
        if records is None or records.digest != first.manifest["digest"]:
            raise RecordsError(
                f"{first.folder}: expected the records that it was trained on, to measure what becomes of its Dice, "
                f"found {'none' if records is None else 'others'}. Name them by --records."
            )
        self._records, self.part = records, "the validation part"
        rows = {row.source_id: row for row in records.index if row.lesion_fraction is not None}
        self._training = [one for one in first.splits["train"] if one in rows]
        self._validation = [one for one in first.splits["validation"] if one in rows]
        if not self._validation:
            raise RecordsError(
                f"{first.folder}: expected annotated images in the validation part, to measure what becomes of the "
                "Dice, found none. Export as a SavedModel only, which is the same graph as the run."
            )
        learned = set().union(*(run.trained_on for run in others))
        new = [one for one in self._validation if rows[one].sha256 not in learned]
        if new:
            self._validation = new
        if others:
            self.part = (
                "the first run's validation part that the other runs never saw"
                if new
                else "the first run's validation part, from which other runs of the ensemble learned"
            )

    def validation(self) -> Iterator[Sample]:
        """Up to `_MOST_VALIDATION_IMAGES`, evenly of all."""
        return self._records.read(_evenly(self._validation, _MOST_VALIDATION_IMAGES))

    def calibration(self) -> Iterator[np.ndarray]:
        """Pixels of up to `_CALIBRATION_IMAGES`, evenly of all."""
        return (sample.image for sample in self._records.read(_evenly(self._training, _CALIBRATION_IMAGES)))


def write_measured(
    form: str,
    folder: Path,
    graph: SegmentationGraph,
    runs: Sequence[Run],
    metadata: dict[str, Any],
    images: MeasuredImages,
) -> dict[str, Any]:
    """Writes one file, measures it, and writes into it what was measured.

    Args:
        form: of `FORMATS`, but for the SavedModel.
        folder: where to.
        graph: of the runs.
        runs: that it was made of.
        metadata: of the whole export.
        images: to calibrate and to measure on.
    Returns:
        what the metadata says of the file: 'file', 'bytes', 'signatures', 'left_to_the_caller' and 'parity'.
    Raises:
        RunError: the networks cannot be written in this format.
        OutputError: the file cannot be written.
    """
    about = FORMATS[form]
    path, writer = folder / about.file, _writer(form)
    described = {
        "file": about.file,
        "signatures": describe_file(form, graph),
        "left_to_the_caller": list(about.left_to_the_caller),
    }

    def write() -> None:
        inside = {**metadata, "signatures": described["signatures"], "formats": {form: described}}
        write_bytes(path, writer.pack(content, inside, model_card(inside)))

    content = writer.convert(graph, runs, images.calibration)
    write()
    parity = measure_parity(GraphSegmenter(graph, runs[0].classes), load_segmenter(path), images.validation())
    described["parity"] = {"part": images.part, **asdict(parity), "dice_loss": parity.dice_loss}
    write()
    return {**described, "bytes": path.stat().st_size}


def _evenly(source_ids: Sequence[str], most: int) -> list[str]:
    places = np.linspace(0, len(source_ids) - 1, min(most, len(source_ids))).round().astype(int)
    return [source_ids[place] for place in places]


class _Writer(Protocol):
    def convert(
        self, graph: SegmentationGraph, runs: Sequence[Run], calibration: Callable[[], Iterator[np.ndarray]]
    ) -> bytes:
        """The networks in this format, without a description."""

    def pack(self, content: bytes, metadata: dict[str, Any], card: str) -> bytes:
        """With its description inside."""


def _writer(form: str) -> _Writer:
    """What makes a file of one format."""
    if form == "keras":
        from ustoolkit.export.keras_file import KerasWriter

        return KerasWriter()
    if form == "onnx":
        from ustoolkit.export.onnx_file import OnnxWriter

        return OnnxWriter()
    from ustoolkit.export.litert import LiteRtWriter

    return LiteRtWriter(form.removeprefix("litert-"))
