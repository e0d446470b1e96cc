"""What an export is, for the programs and the people that use it: `metadata.json`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.inference.classifier import Decision
from ustoolkit.inference.diagnosis_graph import DiagnosisGraph
from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.provenance import versions
from ustoolkit.recipe.settings import DataSettings
from ustoolkit.run import Run

NOTICE = "Research software and no medical device: no diagnosis may rest on it."
_SEGMENTATION_SCORES = ("dice", "hausdorff95_penalised_pixel", "hausdorff95_penalised_mm")
_INTENDED_USE = (
    "Research on ultrasound images of the kind that it was trained on: to outline lesions, to measure them, and to "
    "prepare annotations that a person corrects."
)
_INTENDED_USE_OF_CLASSIFIERS = (
    f"{_INTENDED_USE} And research on how a lesion's label can be told from such images: never to decide on a patient."
)
_LIMITS = (
    "It was trained and measured on the data sets named here; on other scanners, settings, organs and patients its "
    "scores are not known. Measure them on your own images before you use it.",
    "It expects one ultrasound image without a frame, text or calipers drawn into the tissue.",
    "It outlines something in many images without any lesion, unless such images were in its training.",
    "Sizes in mm are as good as the distance of pixels that is given with an image.",
    "A label's probability is calibrated for the share of labels in its validation images.",
)


def describe_export(
    graph: SegmentationGraph | DiagnosisGraph,
    segmenters: Sequence[Run],
    name: str,
    version: int,
    classifier: Run | None = None,
    decision: Decision | None = None,
) -> dict[str, Any]:
    """The metadata of an export, before its files are measured.

    Args:
        graph: what is exported.
        segmenters: the runs that it was made of.
        name, version: under which it is served.
        classifier, decision: of the classifier within, if any.
    Returns:
        JSON-serialisable. 'signatures' and 'formats' are empty: who writes a file adds what it takes and gives, and
        what it was measured to do.
    """
    described = {
        "format": "ustoolkit export 1",
        "name": name,
        "version": version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": "segmentation" if classifier is None else "diagnosis",
        "notice": NOTICE,
        "intended_use": _INTENDED_USE if classifier is None else _INTENDED_USE_OF_CLASSIFIERS,
        "limits": list(_LIMITS if classifier is not None else _LIMITS[:-1]),
        "classes": segmenters[0].classes,
        "preprocessing": [_preprocessing(data) for data in graph.inputs],
        "inference": graph.inference.model_dump(mode="json"),
        "signatures": {},
        "segmenters": [_of_run(run) for run in segmenters],
        "formats": {},
        "versions": versions(),
    }
    if classifier is not None and decision is not None:
        described["classifier"] = {
            **_of_run(classifier),
            "labels": classifier.labels,
            "positive": classifier.labels[-1],
            "temperature": decision.temperature,
            "threshold": decision.threshold if len(classifier.labels) == 2 else None,
            "region": _region(classifier),
        }
    return described


def _preprocessing(data: DataSettings) -> dict[str, Any]:
    height, width = data.image_size
    return {
        "image_size": [height, width],
        "channels": data.channels,
        "keep_aspect": data.keep_aspect,
        "steps": [
            "to grey by the luma weights of ITU-R BT.601" if data.channels == 1 else "grey repeated to RGB",
            f"bilinear with anti-aliasing to {width} × {height} pixels"
            + (", its shape kept, black below and to the right" if data.keep_aspect else ""),
            "normalisation, within the network",
        ],
    }


def _of_run(run: Run) -> dict[str, Any]:
    """A run's network, what it was trained on, and the scores that were measured of it."""
    recipe, manifest = run.recipe, run.manifest
    return {
        "run": run.folder.name,
        "network": recipe.model.name,
        "recipe": recipe.name,
        "seed": recipe.training.seed,
        "trained": run.state.get("started"),
        "trained_on": {
            "data_set": manifest.get("settings", {}).get("name", ""),
            "digest": manifest["digest"],
            "counts": manifest["counts"],
            "parts": {part: len(ids) for part, ids in run.splits.items()},
        },
        "scores": {**_validation(run), **_evaluations(run)},
    }


def _region(classifier: Run) -> dict[str, Any]:
    """What the classifier sees of an image; the runs that found its training lesions by name, not where they lie."""
    described = classifier.recipe.classification.region.model_dump(mode="json")
    described["segmenters"] = [PurePath(path).name for path in described["segmenters"]]
    return described


def _validation(run: Run) -> dict[str, Any]:
    score = run.state.get("best_validation_dice")
    return {} if score is None else {"validation": {"dice": score}}


def _evaluations(run: Run) -> dict[str, Any]:
    """Every evaluation of the run, by name: of segmenters Dice by class, of classifiers what its table says."""
    found = {}
    for path in sorted((run.folder / "evaluation").glob("*/metrics.json")):
        content = read_json(path, RunError, "Evaluate again.")
        if not isinstance(content, Mapping):
            continue
        scores: dict[str, Any] = {key: content[key] for key in ("images", "patients") if key in content}
        for name, metrics in dict(content.get("classes") or {}).items():
            scores[name] = {key: metrics[key] for key in _SEGMENTATION_SCORES if key in metrics}
        scores |= {key: content[key] for key in ("by_image", "by_patient") if key in content}
        found[path.parent.name] = scores
    return found
