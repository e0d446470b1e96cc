"""Commands on classifiers: what train and evaluate do for them, fuse."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import RunError, UstoolkitError

if TYPE_CHECKING:
    from ustoolkit.data.lesions import LesionFinder
    from ustoolkit.data.records import Records
    from ustoolkit.inference.classifier import Classifier
    from ustoolkit.run import Run

_SHOWN = (
    ("roc_auc", "ROC AUC"),
    ("pr_auc", "PR AUC"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("f1", "F1"),
    ("brier", "Brier score"),
    ("expected_calibration_error", "calibration error"),
    ("calibration_slope", "calibration slope"),
)


def train_classifier(run: "Run", records: "Records") -> Outcome:
    """Trains a run that classifies, then finds its temperature and operating point."""
    from ustoolkit.inference.decide import decide
    from ustoolkit.recipe.classifiers import LesionFeaturesSettings
    from ustoolkit.training.classical import train_classical

    try:
        find = _finder_for_training(run)
    except UstoolkitError:
        if run.state["status"] == "started":
            run.discard()
        raise
    settings = run.recipe.classification.transfer
    if isinstance(run.recipe.model, LesionFeaturesSettings) or settings.form == "bottleneck":
        train_classical(run, records, say=warn, find=find)
        how = f"{run.state['estimator']['name']}, {run.state['training_seconds'] / 60:.1f} min"
    else:
        from ustoolkit.training.trainer import train

        state = train(run, records, say=warn, find=find)
        how = f"epoch {state.best_epoch} of {state.epoch}, {state.seconds / 60:.1f} min; {run.state['stopped_because']}"
    decision = decide(run, records, find)
    text = (
        f"validation AUC {run.state['best_validation_auc']:.3f} ({how}); '{run.labels[-1]}' from a probability of "
        f"{decision.threshold:.3f} on, temperature {decision.temperature:.2f}; run in {run.folder}"
    )
    return {"run": str(run.folder), **run.state, "decision": vars(decision)}, text


def evaluate_classification(options: argparse.Namespace) -> Outcome:
    """Scores a run that classifies, or a fusion."""
    from ustoolkit.files import read_json
    from ustoolkit.inference.classify import evaluate_classifier
    from ustoolkit.inference.fusion import load_classifier
    from ustoolkit.inference.segmenter import load_segmenters
    from ustoolkit.report.diagnosis_plots import write_plots

    if options.crf or options.all_components:
        raise RunError(f"{options.run_folder}: --crf and --all-components are for runs that segment. Leave them out.")
    classifier = load_classifier(options.run_folder)
    warn_of(classifier)
    records = records_of_classifier(classifier, options.records)
    segmenter = load_segmenters(options.segmenter) if options.segmenter else None
    part = options.split or ("test" if classifier.splits_of(records.digest) is not None else "all")
    name = "-".join(path.resolve().name for path in options.segmenter)
    folder = evaluate_classifier(classifier, records, part, segmenter, name)
    write_plots(folder)
    tables = read_json(folder / "metrics.json", RunError, "Evaluate again.")
    missed = tables["settings"]["lesions_missed"]
    if missed:
        warn(
            f"the segmenter found no lesion in {len(missed)} images ({', '.join(missed[:3])}, …); what it held most "
            "likely was taken for one."
        )
    return {"folder": str(folder), **tables}, f"{_format(tables)}\ntables and plots in {folder}"


def fuse(options: argparse.Namespace) -> Outcome:
    """Fuses several runs that classify."""
    from ustoolkit.data.records import records_of
    from ustoolkit.inference.classifier import RunClassifier, decision_of
    from ustoolkit.inference.classify import lesion_finder
    from ustoolkit.inference.fusion import fuse_runs
    from ustoolkit.inference.segmenter import load_segmenters
    from ustoolkit.run import Run

    runs = [Run(folder) for folder in options.runs]
    first = next((run for run in runs if run.recipe.classification.region.source != "image"), runs[0])
    records = records_of(first, options.records)
    segmenter = load_segmenters(options.segmenter) if options.segmenter else None
    find = lesion_finder(RunClassifier(first), segmenter)
    fused = fuse_runs(options.runs, options.out, options.how, records, find, options.overwrite)
    decision = decision_of(fused.folder)
    # A stacked fusion has coefficients, not weights.
    weights = dict(zip([str(path) for path in options.runs], fused.fusion.weights, strict=False))
    shown = "".join(f"\n  {weight:.3f}  {name}" for name, weight in weights.items())
    text = (
        f"fused {len(options.runs)} runs on {decision.evidence['images']} images: AUC "
        f"{decision.evidence['roc_auc']:.3f} there (the weights were found on them){shown}\nin {fused.folder}"
    )
    return {"folder": str(fused.folder), "weights": weights, "decision": vars(decision)}, text


def warn_of(classifier: "Classifier") -> None:
    """Says what is known against a classifier's scores."""
    runs = [one.run for one in getattr(classifier, "classifiers", [classifier])]
    for line in dict.fromkeys(warning for run in runs for warning in run.state.get("warnings", ())):
        warn(line)


def records_of_classifier(classifier: "Classifier", folder: Path | None) -> "Records":
    """The records that a run or the runs of a fusion were trained on, or others."""
    from ustoolkit.data.records import records_of

    return records_of(getattr(classifier, "classifiers", [classifier])[0].run, folder)


def _finder_for_training(run: "Run") -> "LesionFinder":
    """Where the lesions to learn from are; only a named segmenter needs TensorFlow's graph."""
    from ustoolkit.data.lesions import known_lesions

    region = run.recipe.classification.region
    if region.source != "predicted":
        return known_lesions(region)
    from ustoolkit.inference.lesions import FoundLesions
    from ustoolkit.inference.segmenter import load_segmenters

    segmenter = load_segmenters([Path(path).expanduser() for path in region.segmenters])
    learned = run.trained_on & getattr(segmenter, "trained_on", set())
    if learned:
        warn(
            f"the segmenters learned from {len(learned)} of the images to train on, and find their lesions better than "
            "those of new patients. Train them on folds ('ustoolkit split --folds 3 --keep-test FILE'), so that each "
            "image has one that did not learn from it."
        )
    return FoundLesions(segmenter)


def _format(tables: dict[str, Any]) -> str:
    """The scores by image and by patient, for a terminal."""
    image, patient = tables["by_image"], tables["by_patient"]
    counts = f"{image['counts']['images']} images of {image['counts']['patients']} patients"
    positive = tables["labels"][-1]
    lines = [
        f"{counts}; '{positive}' from a probability of {tables['settings']['threshold']:.3f} on",
        f"{'':20}{'by image':28}by patient",
    ]
    for key, name in _SHOWN:
        lines.append(f"{name:20}{_with_interval(image[key]):28}{_with_interval(patient[key])}")
    return "\n".join(lines)


def _with_interval(entry: dict[str, float | None]) -> str:
    if entry["value"] is None:
        return "undefined"
    if entry["interval_low"] is None or entry["interval_high"] is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['interval_low']:.3f} to {entry['interval_high']:.3f})"
