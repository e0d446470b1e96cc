"""A run, or several, as files for downstream apps: one folder a version, with what each file was measured to do."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.records import Records
from ustoolkit.errors import OutputError, RunError
from ustoolkit.export.formats import FORMATS
from ustoolkit.export.measured_files import MeasuredImages, write_measured
from ustoolkit.export.metadata import describe_export
from ustoolkit.export.model_card import model_card
from ustoolkit.export.saved_model import write_saved_model
from ustoolkit.export.signatures import ExportedGraph, describe_signatures
from ustoolkit.files import check_replaceable, new_folder, write_json, write_text
from ustoolkit.inference.classifier import decision_of
from ustoolkit.inference.diagnosis_graph import DiagnosisGraph
from ustoolkit.inference.graph import segmentation_graph
from ustoolkit.models.load import load_model
from ustoolkit.progress import progress
from ustoolkit.recipe.classifiers import LesionFeaturesSettings
from ustoolkit.run import Run

METADATA, CARD = "metadata.json", "model_card.md"


@dataclass(frozen=True)
class ExportSettings:
    """What to write, and how good it has to be.

    Attributes:
        formats: of `FORMATS`, at least one.
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
        the folder of the version, with 'metadata.json', 'model_card.md' and the files of `FORMATS`.
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
    samples = MeasuredImages(runs, records) if set(settings.formats) != {"saved_model"} else None
    inference = runs[0].inference
    if settings.flips:
        inference = inference.model_copy(update={"flips": settings.flips})
    segmentation = segmentation_graph(runs, inference)
    graph, decision = segmentation, None
    if classifier is not None:
        decision = decision_of(classifier.folder)
        graph = DiagnosisGraph(segmentation, load_model(classifier), classifier.recipe, decision, classifier.labels)
    metadata = describe_export(graph, runs, name, settings.version, classifier, decision)
    with new_folder(folder, overwrite, owned_by=METADATA) as partial:
        for form in progress([form for form in FORMATS if form in settings.formats], "exporting", unit="file"):
            if samples is None or form == "saved_model":
                exported = ExportedGraph(graph)
                write_saved_model(exported, partial)
                metadata["signatures"] = describe_signatures(exported)
                metadata["formats"][form] = {"file": FORMATS[form].file}
            else:
                metadata["formats"][form] = write_measured(form, partial, segmentation, runs, metadata, samples)
                _check_loss(form, metadata["formats"][form]["parity"], settings, say)
        write_json(partial / METADATA, metadata)
        write_text(partial / CARD, model_card(metadata))
    return folder


def _check_loss(form: str, parity: dict[str, Any], settings: ExportSettings, say: Callable[[str], None]) -> None:
    loss, file = parity["dice_loss"], FORMATS[form].file
    if math.isnan(loss):
        say(f"{file}: no validation image has a lesion in truth or in a mask, so what became of the Dice is not known.")
        return
    if loss <= settings.largest_dice_loss:
        return
    found = (
        f"{file}: expected a mean Dice on {parity['images']} validation images at most "
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
    wrong = [form for form in settings.formats if form not in FORMATS]
    if wrong or not settings.formats:
        raise RunError(f"'{', '.join(wrong)}': expected formats of {', '.join(FORMATS)}. Correct --format.")
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
