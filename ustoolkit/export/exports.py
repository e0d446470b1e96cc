"""A run, or several, as files for downstream apps: one folder a version, with what each file was measured to do."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import OutputError, RecordsError, RunError
from ustoolkit.export.metadata import describe_export
from ustoolkit.export.model_card import model_card
from ustoolkit.export.parity import Parity, measure_parity
from ustoolkit.export.saved_model import write_saved_model
from ustoolkit.export.signatures import ExportedGraph
from ustoolkit.files import check_replaceable, new_folder, write_bytes, write_json, write_text
from ustoolkit.inference.classifier import decision_of
from ustoolkit.inference.diagnosis_graph import DiagnosisGraph
from ustoolkit.inference.graph import SegmentationGraph, segmentation_graph
from ustoolkit.inference.run_segmenter import GraphSegmenter
from ustoolkit.inference.segmenter import load_segmenter
from ustoolkit.models.load import load_model
from ustoolkit.progress import progress
from ustoolkit.recipe.classifiers import LesionFeaturesSettings
from ustoolkit.run import Run

FILES = {
    "saved_model": "saved_model.pb",
    "litert-float32": "model_float32.tflite",
    "litert-float16": "model_float16.tflite",
    "litert-int8": "model_int8.tflite",
    "onnx": "model.onnx",
    "keras": "model.keras",
}
METADATA, CARD = "metadata.json", "model_card.md"
_MOST_VALIDATION_IMAGES = 256
_CALIBRATION_IMAGES = 50  # more take longer and change next to nothing


@dataclass(frozen=True)
class ExportSettings:
    """What to write, and how good it has to be.

    Attributes:
        formats: of `FILES`, at least one.
        name: under which it is served; '' for the folder's.
        version: of the model, the folder within.
        flips: 'off', 'horizontal' or 'both'; '' for what the first run says.
        largest_dice_loss: by how much the mean Dice on validation images may fall in a file that is no SavedModel.
        allow_dice_loss: whether one that falls by more is written nevertheless, with a warning.
    """

    formats: tuple[str, ...] = ("saved_model",)
    name: str = ""
    version: int = 1
    flips: str = ""
    largest_dice_loss: float = 0.005
    allow_dice_loss: bool = False


def export_runs(
    runs: Sequence[Run],
    out: Path | str,
    settings: ExportSettings | None = None,
    classifier: Run | None = None,
    records: Records | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Writes one segmenter, several as one, or these with a classifier.

    Args:
        runs: that segment the same classes; of several the probabilities are averaged, and all else is the first one's.
        out: the folder of all versions, laid out as TensorFlow Serving reads it.
        settings: the formats and their limits; None for a SavedModel.
        classifier: a run that fine-tuned a network, to judge the lesion; goes into a SavedModel only.
        records: of the first run: every other format is measured on their validation part, and int8 is calibrated on
            their training part.
        overwrite: whether this version may be replaced.
        say: told of what was written although it falls short.
    Returns:
        the folder of the version, with 'metadata.json', 'model_card.md' and the files of `FILES`.
    Raises:
        RunError: a run is of another kind, has no weights or no decision, cannot be written in a format, or loses more
            Dice in it than is allowed. Nothing is written then.
        RecordsError: the records are not those of the first run, or have no validation image.
        OutputError: the folder is taken or cannot be written.
    """
    settings, out = settings or ExportSettings(), Path(out)
    name = _checked_name(settings.name or out.resolve().name)
    _check_kinds(runs, settings, classifier)
    folder = out / str(settings.version)
    check_replaceable(folder, overwrite, owned_by=METADATA)
    samples = _Samples(runs[0], records) if set(settings.formats) != {"saved_model"} else None
    inference = runs[0].inference
    if settings.flips:
        inference = inference.model_copy(update={"flips": settings.flips})
    segmentation = segmentation_graph(runs, inference)
    graph, decision = segmentation, None
    if classifier is not None:
        decision = decision_of(classifier.folder)
        graph = DiagnosisGraph(segmentation, load_model(classifier), classifier.recipe, decision, classifier.labels)
    exported = ExportedGraph(graph)
    metadata = describe_export(exported, runs, name, settings.version, classifier, decision)
    with new_folder(folder, overwrite, owned_by=METADATA) as partial:
        if "saved_model" in settings.formats:
            write_saved_model(exported, partial)
            metadata["formats"]["saved_model"] = {"file": FILES["saved_model"]}
        measured = [form for form in FILES if form in settings.formats and form != "saved_model"]
        for form in progress(measured, "exporting", unit="file"):
            _write_measured(form, partial / FILES[form], segmentation, runs, metadata, samples)
            _check_loss(form, metadata["formats"][form]["parity"], settings, say)
        write_json(partial / METADATA, metadata)
        write_text(partial / CARD, model_card(metadata))
    return folder


class _Samples:
    """Images of the first run: those to calibrate on, and those to measure on, which it did not learn from."""

    def __init__(self, run: Run, records: Records | None) -> None:
        if records is None or records.digest != run.manifest["digest"]:
            raise RecordsError(
                f"{run.folder}: expected the records that it was trained on, to measure what becomes of its Dice, "
                f"found {'none' if records is None else 'others'}. Name them by --records."
            )
        self._records = records
        annotated = {row.source_id for row in records.index if row.lesion_fraction is not None}
        self._training = [one for one in run.splits["train"] if one in annotated]
        self._validation = [one for one in run.splits["validation"] if one in annotated]
        if not self._validation:
            raise RecordsError(
                f"{run.folder}: expected annotated images in the validation part, to measure what becomes of the Dice, "
                "found none. Export as a SavedModel only, which is the same graph as the run."
            )

    def validation(self) -> Iterator[Sample]:
        """Up to `_MOST_VALIDATION_IMAGES`, evenly of all."""
        return self._records.read(_evenly(self._validation, _MOST_VALIDATION_IMAGES))

    def calibration(self) -> Iterator[np.ndarray]:
        """Pixels of up to `_CALIBRATION_IMAGES`, evenly of all."""
        return (sample.image for sample in self._records.read(_evenly(self._training, _CALIBRATION_IMAGES)))


def _evenly(source_ids: Sequence[str], most: int) -> list[str]:
    places = np.linspace(0, len(source_ids) - 1, min(most, len(source_ids))).round().astype(int)
    return [source_ids[place] for place in places]


def _write_measured(
    form: str, path: Path, graph: SegmentationGraph, runs: Sequence[Run], metadata: dict[str, Any], samples: _Samples
) -> None:
    """Writes one file, measures it, and writes into it what was measured; `metadata` learns of it too."""
    writer = _writer(form)
    content = writer.convert(graph, runs, samples.calibration)
    for measured in (False, True):
        described = {**metadata, "formats": {form: metadata["formats"].get(form, {})}}
        write_bytes(path, writer.pack(content, described, model_card(described)))
        if not measured:
            reference = GraphSegmenter(graph, runs[0].classes)
            parity = measure_parity(reference, load_segmenter(path), samples.validation())
            about = {"file": path.name, "bytes": path.stat().st_size, "parity": _as_json(parity)}
            metadata["formats"][form] = about


def _as_json(parity: Parity) -> dict[str, Any]:
    return {"part": "validation", **asdict(parity), "dice_loss": parity.dice_loss}


def _writer(form: str) -> "_Writer":
    """What makes a file of one format."""
    if form == "keras":
        from ustoolkit.export.keras_file import KerasWriter

        return KerasWriter()
    if form == "onnx":
        from ustoolkit.export.onnx_file import OnnxWriter

        return OnnxWriter()
    from ustoolkit.export.litert import LiteRtWriter

    return LiteRtWriter(form.removeprefix("litert-"))


class _Writer(Protocol):
    def convert(
        self, graph: SegmentationGraph, runs: Sequence[Run], calibration: Callable[[], Iterator[np.ndarray]]
    ) -> bytes:
        """The networks in this format, without a description."""

    def pack(self, content: bytes, metadata: dict[str, Any], card: str) -> bytes:
        """With its description inside."""


def _check_loss(form: str, parity: dict[str, Any], settings: ExportSettings, say: Callable[[str], None]) -> None:
    loss = parity["dice_loss"]
    if math.isnan(loss) or loss <= settings.largest_dice_loss:
        return
    found = (
        f"{FILES[form]}: expected a mean Dice on {parity['images']} validation images at most "
        f"{settings.largest_dice_loss:g} below the run's {parity['dice_before']:.4f}, found {parity['dice']:.4f}"
    )
    if not settings.allow_dice_loss:
        raise RunError(
            f"{found}. Nothing was written. Choose a finer format, raise --largest-dice-loss, or add --allow-dice-loss."
        )
    say(f"{found}. Written nevertheless, since --allow-dice-loss was given.")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise OutputError(
            f"'{name}': expected letters, digits, '.', '-' and '_' as the name of the model, since it becomes part of "
            "its address. Choose another by --name."
        )
    return name


def _check_kinds(runs: Sequence[Run], settings: ExportSettings, classifier: Run | None) -> None:
    wrong = [form for form in settings.formats if form not in FILES]
    if wrong or not settings.formats:
        raise RunError(f"'{', '.join(wrong)}': expected formats of {', '.join(FILES)}. Correct --format.")
    if settings.version < 1:
        raise RunError(f"version {settings.version}: expected 1 or more. Correct --model-version.")
    if len(runs) > 1 and "keras" in settings.formats:
        raise RunError(
            "keras: expected one run, found several, and a Keras file holds one network. Choose another --format."
        )
    if classifier is None:
        return
    recipe = classifier.recipe
    if not recipe.classifies:
        raise RunError(
            f"{classifier.folder}: expected a run that classifies, found one of {recipe.model.name}, which segments. "
            "Name it by --segmenter, and the run of a classifier before."
        )
    measures = isinstance(recipe.model, LesionFeaturesSettings)
    if measures or recipe.classification.transfer.form != "fine_tuning":
        found = "measurements of lesions" if measures else "bottleneck features"
        raise RunError(
            f"{classifier.folder}: expected a network that was fine-tuned, found {found} with a classifier of "
            "scikit-learn, which TensorFlow has no operations for. Train with classification.transfer.form="
            "fine_tuning, or use this run by 'ustoolkit diagnose'."
        )
    if len(runs[0].classes) != 2:
        raise RunError(
            f"{runs[0].folder}: expected a segmenter of two classes, found {', '.join(runs[0].classes)}. Train one "
            "whose masks are lesion and background."
        )
    if settings.formats != ("saved_model",):
        raise RunError(
            f"{', '.join(settings.formats)}: expected the format saved_model for a classifier, which alone holds both "
            "networks. Leave out --format, or export the segmenter alone."
        )
