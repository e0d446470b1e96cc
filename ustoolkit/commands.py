"""What each command does: read the options, call the stage, say what came out. Stages are imported when called."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ustoolkit.errors import RecordsError, RunError

Outcome = tuple[dict[str, Any], str]  # a command's result for a script, and for a person


def phantom(options: argparse.Namespace) -> Outcome:
    """Simulates images."""
    from ustoolkit.data.phantom import write_phantoms

    out = write_phantoms(
        options.out, options.count, options.seed, tuple(options.size), options.frame, options.overwrite
    )
    return {"folder": str(out), "images": options.count}, f"{options.count} phantoms in {out}"


def inspect(options: argparse.Namespace) -> Outcome:
    """Says what a data set holds."""
    from ustoolkit.data.audit import audit, format_audit, loose_files
    from ustoolkit.data.readers import describe, open_data_set

    root, settings = _data_set(options)
    settings = describe(root, settings)
    entries = open_data_set(root, settings)
    result = audit(entries, settings.labels, options.workers)
    result["loose_files"] = loose_files(root, entries)
    return result, format_audit(result) + "".join(f"\n! {line}" for line in _loose_lines(result["loose_files"]))


def records(options: argparse.Namespace) -> Outcome:
    """Converts a data set, and splits it where that can be done."""
    from ustoolkit.data.audit import loose_files
    from ustoolkit.data.readers import describe, open_data_set
    from ustoolkit.data.records import write_records
    from ustoolkit.data.split import split_patients, write_splits

    root, settings = _data_set(options)
    settings = describe(root, settings)
    entries = open_data_set(root, settings)
    records = write_records(entries, options.out, settings, options.workers, options.overwrite)
    for line in _loose_lines(loose_files(root, entries)):
        _warn(line)
    counts, refused = records.manifest["counts"], records.manifest["refused"]
    lines = [f"{counts['images']} images of {counts['patients']} patients in {options.out}"]
    try:
        how = settings.split.model_dump(mode="json")
        splits = split_patients(records.index, **how)
        write_splits(records.folder / "splits.json", splits, how)
        parts = ", ".join(f"{part} {len(names)}" for part, names in splits.items())
        lines.append(f"split by patient: {parts} (another one: ustoolkit split {options.out})")
    except RecordsError as problem:
        _warn(f"no split made, so this cannot be trained on yet: {problem}")
    if counts["patients"] == counts["images"] > 1 and not settings.patient:
        _warn("every image counts as a patient of its own; if patients have several, say how with --patient REGEX.")
    if counts["unlabelled"]:
        _warn(f"{counts['unlabelled']} images have no mask; they are kept, and not trained on.")
    if refused:
        reasons = "".join(f"\n  {item['reason']}" for item in refused)
        _warn(f"{len(refused)} images were refused, the rest is converted:{reasons}")
    return {"folder": str(options.out), **counts, "refused": refused}, "\n".join(lines)


def split(options: argparse.Namespace) -> Outcome:
    """Divides records by patient."""
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import split_patients, write_splits
    from ustoolkit.recipe import validate
    from ustoolkit.recipe.data_set import SplitSettings

    records = Records(options.records)
    given = {name: getattr(options, name) for name in SplitSettings.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    how = validate(SplitSettings, given, "split").model_dump(mode="json")
    splits = split_patients(records.index, **how)
    out = options.out or records.folder / "splits.json"
    write_splits(out, splits, how)
    counts = {part: len(names) for part, names in splits.items()}
    return {"file": str(out), **counts}, f"{', '.join(f'{part} {n}' for part, n in counts.items())} in {out}"


def train(options: argparse.Namespace) -> Outcome:
    """Trains, or goes on training."""
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import several_regions
    from ustoolkit.recipe import load_recipe
    from ustoolkit.training.start import resume_run, start_run

    overrides = [*options.set, *([f"training.strategy={options.strategy}"] if options.strategy else [])]
    recipe = load_recipe(options.recipe, overrides)
    records = Records(options.records)
    if options.resume:
        if overrides or options.overwrite or options.splits:
            raise RunError(
                "--resume goes on with the run's own recipe and split; leave out --set, --strategy, --splits."
            )
        run = resume_run(records, options.out)
        if run.recipe.name != recipe.name:
            raise RunError(f"{options.out}: this run's recipe is '{run.recipe.name}', not '{recipe.name}'. Name that.")
    else:
        run = start_run(recipe, records, options.out, options.splits, options.overwrite)
    pieces = several_regions(records, run.splits["train"])
    if pieces > 0.1 and run.recipe.inference.largest_component:
        _warn(
            f"{pieces:.0%} of the training masks have several regions, and the recipe keeps only the largest of a "
            "prediction; add --set inference.largest_component=false to keep all."
        )
    from ustoolkit.training.trainer import train

    state = train(run, records)
    text = (
        f"validation Dice {state.best_score:.3f} (epoch {state.best_epoch} of {state.epoch}, "
        f"{state.seconds / 60:.1f} min; {run.state['stopped_because']}); run in {run.folder}"
    )
    return {"run": str(run.folder), **run.state}, text


def evaluate(options: argparse.Namespace) -> Outcome:
    """Scores a run."""
    from ustoolkit.data.records import Records
    from ustoolkit.files import read_json
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    records = Records(options.records or run.records)
    own = records.digest == run.manifest["digest"]
    from ustoolkit.evaluation.tables import format_summary
    from ustoolkit.inference.evaluate import evaluate_run

    largest = False if options.all_components else None
    folder = evaluate_run(run, records, options.split or ("test" if own else "all"), largest)
    metrics = read_json(folder / "metrics.json", RunError, "Evaluate again.")
    return {"folder": str(folder), **metrics}, f"{format_summary(metrics)}\ntables in {folder}"


def predict(options: argparse.Namespace) -> Outcome:
    """Segments images."""
    from ustoolkit.files import check_replaceable

    check_replaceable(options.out, options.overwrite, owned_by="predictions.json")
    from ustoolkit.inference.predict import predict_paths
    from ustoolkit.inference.segmenter import load_segmenter

    predictions = predict_paths(
        load_segmenter(options.model), options.images, options.out, options.split, options.overwrite
    )
    if predictions.refused:
        _warn(f"{len(predictions.refused)} images were refused:\n  " + "\n  ".join(predictions.refused))
    result = {"masks": [str(path) for path in predictions.written], "refused": predictions.refused}
    return result, f"{len(predictions.written)} masks and overlays in {options.out}"


def export(options: argparse.Namespace) -> Outcome:
    """Writes a SavedModel."""
    from ustoolkit.files import check_replaceable
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    out = options.out or run.folder / "export"
    check_replaceable(out, options.overwrite, owned_by="saved_model.pb")
    from ustoolkit.export.saved_model import export_saved_model

    export_saved_model(run, out, options.overwrite)
    return {"saved_model": str(out)}, f"SavedModel in {out}"


def report(options: argparse.Namespace) -> Outcome:
    """Writes a run's page."""
    from ustoolkit.data.records import Records
    from ustoolkit.report.html import write_report
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    path = write_report(run, Records(options.records) if options.records else None, options.split)
    return {"report": str(path)}, f"report in {path}"


def models(options: argparse.Namespace) -> Outcome:
    """Lists the zoo."""
    from dataclasses import asdict

    from ustoolkit.models.zoo import zoo

    entries = zoo()
    width = max(len(entry.name) for entry in entries)
    lines = [f"{entry.name:<{width}}  {entry.trainable_weights:>12,}  {entry.paper}" for entry in entries]
    header = f"{'name':<{width}}  {'weights':>12}  paper"
    return {"models": [asdict(entry) for entry in entries]}, "\n".join([header, *lines])


def _data_set(options: argparse.Namespace) -> tuple[Path, Any]:
    """The folder and the description that PATH and the options mean."""
    from ustoolkit.recipe import DataSetSettings, load_data_set

    path: Path = options.path
    settings = load_data_set(path) if path.suffix == ".toml" else DataSetSettings(path=str(path))
    changes = {"format": options.format, "patient": options.patient}
    settings = settings.model_copy(update={key: value for key, value in changes.items() if value})
    if not settings.path:
        raise RecordsError(f"{path}: expected a path in the description. Add path = '…' to it.")
    return Path(settings.path), settings


def _loose_lines(loose: dict[str, list[str]]) -> list[str]:
    from ustoolkit.data.audit import listed

    remedies = {
        "images": "images that the table does not name, left out: {}. Add rows for them to take them in.",
        "masks": "masks of no image, left out: {}. Name them after their image, in a folder like its own.",
    }
    return [remedies[kind].format(listed(names)) for kind, names in loose.items() if names]


def _warn(message: str) -> None:
    print(f"ustoolkit: {message}", file=sys.stderr)
