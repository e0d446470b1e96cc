"""Commands on networks: evaluate, predict, report, list."""

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import RecipeError, RunError

if TYPE_CHECKING:
    from ustoolkit.evaluation.statistics import PairedDifference
    from ustoolkit.run import Run


def evaluate(options: argparse.Namespace) -> Outcome:
    """Scores a run, or a fusion of several."""
    from ustoolkit.data.records import records_of
    from ustoolkit.files import read_json
    from ustoolkit.run import Run

    if (options.run_folder / "fusion.json").is_file() or Run(options.run_folder).recipe.classifies:
        from ustoolkit.commands.classification import evaluate_classification

        return evaluate_classification(options)
    if options.segmenter:
        raise RunError(f"{options.run_folder}: this run segments; --segmenter is for runs that classify. Leave it out.")
    run = Run(options.run_folder)
    for warning in run.state.get("warnings", ()):
        warn(warning)
    records = records_of(run, options.records)
    own = records.digest == run.manifest["digest"]
    from ustoolkit.evaluation.tables import format_summary
    from ustoolkit.inference.evaluate import difference_in_dice, evaluate_run

    part = options.split or ("test" if own else "all")
    largest = False if options.all_components else None
    folders = evaluate_run(run, records, part, largest, options.crf, options.workers)
    tables = [read_json(folder / "metrics.json", RunError, "Evaluate again.") for folder in folders]
    result = {"folder": str(folders[0]), **tables[0]}
    text = f"{format_summary(tables[0])}\ntables in {folders[0]}"
    if len(folders) == 1:
        return result, text
    differences = difference_in_dice(*folders)
    result["with_crf"] = {
        "folder": str(folders[1]),
        **tables[1],
        "difference_in_dice": {name: _as_json(difference) for name, difference in differences.items()},
    }
    lines = [f"  {name}: {_in_words(difference)}" for name, difference in differences.items()]
    return result, "\n".join(
        [
            "WITHOUT THE CRF",
            text,
            "\nWITH THE CRF",
            f"{format_summary(tables[1])}\ntables in {folders[1]}",
            "\nDice with the CRF less that without, and its 95 % interval over patients:",
            *lines,
        ]
    )


def _as_json(difference: "PairedDifference") -> dict[str, Any]:
    numbers = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(difference).items()
    }
    return {**numbers, "verdict": difference.verdict}


def _in_words(difference: "PairedDifference") -> str:
    if math.isnan(difference.mean):
        return "undefined on every image"
    of = f"{difference.images} images of {difference.groups} patients"
    if math.isnan(difference.interval_low):
        return f"{difference.mean:+.4f}, {of}: too few for an interval"
    low, high = difference.interval_low, difference.interval_high
    return f"{difference.mean:+.4f} ({low:+.4f} to {high:+.4f}), {of}: {difference.verdict}"


def predict(options: argparse.Namespace) -> Outcome:
    """Segments images."""
    from ustoolkit.files import check_replaceable

    check_replaceable(options.out, options.overwrite, owned_by="predictions.json")
    from ustoolkit.inference.predict import predict_paths
    from ustoolkit.inference.segmenter import load_segmenter

    predictions = predict_paths(
        load_segmenter(options.model),
        options.images,
        options.out,
        options.split,
        options.overwrite,
        options.crf,
        options.workers,
    )
    if predictions.refused:
        warn(f"{len(predictions.refused)} images were refused:\n  " + "\n  ".join(predictions.refused))
    result = {
        "masks": [str(path) for path in predictions.written],
        "masks_without_crf": [str(path) for path in predictions.without_crf],
        "panels": [str(path) for path in predictions.panels],
        "refused": predictions.refused,
    }
    refined = " refined by the CRF" if predictions.without_crf else ""
    return result, f"{len(predictions.written)} masks{refined}, overlays and panels in {options.out}"


def report(options: argparse.Namespace) -> Outcome:
    """Writes the page of a run, of two runs side by side, or of a study."""
    path = _write_page(options)
    return {"report": str(path)}, f"report in {path}"


def _write_page(options: argparse.Namespace) -> Path:
    from ustoolkit.data.records import Records
    from ustoolkit.report.classifier_page import write_classifier_page
    from ustoolkit.report.classifier_subject import is_fusion
    from ustoolkit.report.evaluated import check_evaluated, evaluations
    from ustoolkit.report.html import write_report
    from ustoolkit.report.pair_page import write_pair_page
    from ustoolkit.report.study_files import is_study_folder
    from ustoolkit.report.study_page import write_study_page
    from ustoolkit.run import Run

    folder = options.run_folder
    if is_study_folder(folder):
        _check_alone(options, "the page of a study", "other", "out", "records", "audit")
        return write_study_page(folder)
    records = Records(options.records) if options.records else None
    if options.other is not None:
        _check_alone(options, "the page of two runs", "audit")
        return write_pair_page(Run(folder), Run(options.other), options.out, records, options.split)
    _check_alone(options, "the page of one run", "out")
    run = None if is_fusion(folder) else Run(folder)
    if run is None or run.recipe.classifies:
        _check_alone(options, "the page of a classifier", "audit")
        return write_classifier_page(folder, records, options.split)
    trained = run.state["status"] == "finished" and run.best_weights.is_file()
    if trained and options.split == "test" and not evaluations(run):
        _score(run)
    check_evaluated(run, options.split)
    return write_report(run, records, options.split, options.audit)


def _score(run: "Run") -> None:
    """Evaluates a run that was trained and nothing else, so that its page is one command away."""
    from ustoolkit.data.records import records_of
    from ustoolkit.inference.evaluate import evaluate_run

    warn("not evaluated yet: it is scored on its test part first")
    evaluate_run(run, records_of(run), "test")


def _check_alone(options: argparse.Namespace, page: str, *names: str) -> None:
    """Refuses what a page has no use for."""
    given = next((name for name in names if getattr(options, name) is not None), "")
    if given == "other":
        raise RunError(
            f"{options.run_folder}: expected two runs to set side by side, found a study. Name two of the runs in it, "
            "such as STUDY/runs/ARM/seed0, or the study alone."
        )
    if given:
        raise RunError(f"--{given} {getattr(options, given)}: {page} has no use for it. Leave it out.")


def models(options: argparse.Namespace) -> Outcome:
    """Lists the zoo."""
    from ustoolkit.models import MODELS
    from ustoolkit.models.cost import machine, measure
    from ustoolkit.models.zoo import format_zoo, zoo
    from ustoolkit.progress import progress
    from ustoolkit.recipe.validation import nearest

    for name in options.networks:
        if name not in MODELS:
            raise RecipeError(f"'{name}': there is no such network. {nearest(name, list(MODELS))}")
    entries = zoo(options.networks or MODELS)
    result = {"models": [asdict(entry) for entry in entries]}
    if not options.measure:
        return result, format_zoo(entries, [])
    measured = [measure(entry.recipe) for entry in progress(entries, "measuring", unit="network")]
    for listed, each in zip(result["models"], measured, strict=True):
        listed.update(asdict(each))
    about = (
        f"Measured on {machine()}, in float32, per image (training on batches of 2): for comparison on this machine "
        "only."
    )
    return {**result, "machine": machine()}, f"{format_zoo(entries, measured)}\n{about}"
