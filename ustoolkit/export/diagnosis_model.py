"""A SavedModel that finds, measures and classifies a lesion: a segmenter and a classifier in one graph."""

from pathlib import Path

import tensorflow as tf

from ustoolkit.errors import RunError
from ustoolkit.files import new_folder, write_json
from ustoolkit.inference.classifier import decision_of
from ustoolkit.inference.diagnosis_graph import NOT_DECIDED, DiagnosisGraph
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.models.load import load_model
from ustoolkit.provenance import versions
from ustoolkit.recipe.classifiers import LesionFeaturesSettings
from ustoolkit.run import Run


def export_diagnosis_model(classifier: Run, segmenter: Run, out: Path | str, overwrite: bool = False) -> Path:
    """Writes a fine-tuned classifier and a segmenter as one SavedModel.

    Its signature `serving_default` is `ustoolkit.inference.diagnosis_graph.DiagnosisGraph.diagnose`, and gives what
    `ustoolkit diagnose` with the same two runs reports. What is done to masks is inside, but for the CRF, which
    diagnoses do not use either. Millimetres are left to the caller, who knows the distance of pixels.

    Args:
        classifier: a run that fine-tuned a network.
        segmenter: a run that segments, of two classes.
        out: the folder to make; `metadata.json` in it says what the model is.
        overwrite: whether an export that is already there may be replaced.
    Returns:
        the folder.
    Raises:
        RunError: a run is of another kind, has no weights, or the classifier has no decision.
        OutputError: the folder is taken or cannot be written.
    """
    _check_kinds(classifier, segmenter)
    decision, inference = decision_of(classifier.folder), segmenter.inference
    segmentation = SegmentationGraph(load_model(segmenter), segmenter.recipe, inference)
    graph = DiagnosisGraph(segmentation, inference, load_model(classifier), classifier.recipe, decision)
    metadata = {
        "task": "diagnosis",
        "notice": "Research software and no medical device.",
        "input": "uint8 images (1, height, width, 1 or 3), any size, values 0 to 255",
        "labels": classifier.labels,
        "positive": classifier.labels[-1],
        "temperature": decision.temperature,
        "threshold": decision.threshold if len(classifier.labels) == 2 else None,
        "decision": f"index of a label, {NOT_DECIDED} where no lesion is found",
        "lengths": "pixels",
        "region": classifier.recipe.classification.region.model_dump(mode="json"),
        "inference": inference.model_dump(mode="json"),
        "not_in_the_graph": ["the CRF", "millimetres"],
        "classifier": _description(classifier),
        "segmenter": _description(segmenter),
        "versions": versions(),
    }
    with new_folder(out, overwrite, owned_by="saved_model.pb") as folder:
        signatures = {"serving_default": graph.diagnose.get_concrete_function()}
        tf.saved_model.save(graph, str(folder), signatures=signatures)
        write_json(folder / "metadata.json", metadata)
    return Path(out)


def _description(run: Run) -> dict[str, object]:
    return {
        "model": run.recipe.model.name,
        "recipe": run.recipe.name,
        "network_input": {"image_size": run.recipe.data.image_size, "channels": run.recipe.data.channels},
        "trained_on": {"digest": run.manifest["digest"], "counts": run.manifest["counts"]},
    }


def _check_kinds(classifier: Run, segmenter: Run) -> None:
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
    if segmenter.recipe.classifies:
        raise RunError(
            f"{segmenter.folder}: expected a run that segments, found one of {segmenter.recipe.model.name}, which "
            "classifies. Name the run of a network such as unet by --segmenter."
        )
    if len(segmenter.classes) != 2:
        raise RunError(
            f"{segmenter.folder}: expected a segmenter of two classes, found {', '.join(segmenter.classes)}. Train one "
            "whose masks are lesion and background."
        )
