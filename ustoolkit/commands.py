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
    """Says what a data set holds, and what is wrong with it."""
    from ustoolkit.data.audit import audit, format_audit, loose_files, read_parts, to_leave_out
    from ustoolkit.data.exclusions import write_exclusions
    from ustoolkit.data.readers import describe, open_data_set
    from ustoolkit.errors import OutputError
    from ustoolkit.files import check_replaceable

    if options.out:
        check_replaceable(options.out, options.overwrite, owned_by="audit.json")
    if options.exclude and options.exclude.exists() and not options.overwrite:
        raise OutputError(
            f"{options.exclude}: there is a list already. Name another file, or add --overwrite to replace it."
        )
    splits = read_parts(options.splits) if options.splits else None
    root, settings = _data_set(options)
    settings = describe(root, settings)
    entries = open_data_set(root, settings)
    result = {"name": settings.name or root.resolve().name, "format": settings.format}
    result |= audit(entries, settings.labels, options.workers, settings.classes, splits)
    result["loose_files"] = loose_files(root, entries)
    lines = [format_audit(result), *(f"notice   {line}" for line in _loose_lines(result["loose_files"]))]
    if options.exclude:
        reasons = to_leave_out(result)
        write_exclusions(options.exclude, reasons)
        result["exclude"] = {"file": str(options.exclude), "images": len(reasons)}
        lines.append(f"{len(reasons)} images to leave out in {options.exclude}")
    if options.out:
        from ustoolkit.report.audit_page import write_audit

        lines.append(f"page in {write_audit(result, entries, options.out, options.overwrite)}")
    return result, "\n".join(lines)


def clean(options: argparse.Namespace) -> Outcome:
    """Crops and filters images, or shows what that would do to a few."""
    from ustoolkit.data.clean_set import choose_steps, write_cleaned
    from ustoolkit.data.readers import describe, open_data_set

    root, settings = _data_set(options)
    settings = describe(root, choose_steps(settings, options.steps))
    entries = open_data_set(root, settings)
    if options.preview:
        from ustoolkit.report.clean_preview import write_preview

        path, refused = write_preview(entries, options.out, settings.clean, overwrite=options.overwrite)
        return {"preview": str(path), "refused": refused}, f"preview in {path}"
    cleaned = write_cleaned(entries, options.out, settings, options.workers, options.overwrite)
    if cleaned.refused:
        reasons = "".join(f"\n  {item['reason']}" for item in cleaned.refused)
        _warn(f"{len(cleaned.refused)} images were refused, the rest is cleaned:{reasons}")
    result = {"folder": str(options.out), "images": cleaned.images, "cropped": cleaned.cropped}
    text = f"{cleaned.images} images, {cleaned.cropped} of them cropped, in {options.out}"
    return {**result, "refused": cleaned.refused}, text


def records(options: argparse.Namespace) -> Outcome:
    """Converts a data set, and splits it where that can be done."""
    from ustoolkit.data.audit import listed, loose_files
    from ustoolkit.data.exclusions import read_exclusions
    from ustoolkit.data.records import write_records
    from ustoolkit.data.records.beam import beam_engine
    from ustoolkit.data.source import open_source
    from ustoolkit.data.split import split_patients, write_splits

    engine = beam_engine(options.runner_options, options.workers) if options.engine == "beam" else None
    excluded = read_exclusions(options.exclude) if options.exclude else set()
    root, settings = _data_set(options)
    entries, settings = open_source(root, settings)
    unknown = sorted(excluded - {entry.source_id for entry in entries})
    if unknown:
        _warn(f"{options.exclude}: there are no images {listed(unknown)}. Correct the list, or take them off it.")
    how = {"excluded": excluded, "engine": engine, "tell": _warn}
    records = write_records(entries, options.out, settings, options.workers, options.overwrite, **how)
    for line in _loose_lines(loose_files(root, entries)):
        _warn(line)
    counts, refused = records.manifest["counts"], records.manifest["refused"]
    left_out = records.manifest["excluded"]
    lines = [f"{counts['images']} images of {counts['patients']} patients in {options.out}"]
    if left_out:
        lines.append(f"{len(left_out)} images left out as {options.exclude} says")
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
    result = {"folder": str(options.out), **counts, "refused": refused, "excluded": left_out}
    return result, "\n".join(lines)


def split(options: argparse.Namespace) -> Outcome:
    """Divides records by patient: once, or once a fold."""
    from ustoolkit.data.leaks import find_leaks, listed_leaks
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import measure, write_splits
    from ustoolkit.data.split_files import draw_splits, splits_file
    from ustoolkit.data.stratify import format_balance
    from ustoolkit.recipe.data_set import SplitSettings

    records = Records(options.records)
    given = {name: getattr(options, name) for name in SplitSettings.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    drawn = draw_splits(records.index, given, options.folds, options.allow_leak)
    results, lines = [], []
    for fold, (splits, how) in drawn.items():
        out = splits_file(options.out or records.folder, fold)
        write_splits(out, splits, how, records)
        counts = {part: len(names) for part, names in splits.items()}
        even, leaks = measure(splits, records.index), find_leaks(splits, records.index)
        if leaks:
            _warn(f"{out}: {listed_leaks(leaks)}. Train on it with --allow-leak; every result is marked.")
        results.append({"file": str(out), **counts, "balance": even, "leaks": [str(leak) for leak in leaks]})
        lines.append(f"{', '.join(f'{part} {n}' for part, n in counts.items())} in {out}; {format_balance(even)}")
    return results[0] if "" in drawn else {"folds": results}, "\n".join(lines)


def expand(options: argparse.Namespace) -> Outcome:
    """Expands the training part."""
    from ustoolkit.data.expand import expand_records, format_expansion
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import read_splits
    from ustoolkit.recipe import validate
    from ustoolkit.recipe.data_set import ExpansionSettings

    records = Records(options.records)
    given = {name: getattr(options, name, None) for name in ExpansionSettings.model_fields}
    settings = validate(ExpansionSettings, {key: value for key, value in given.items() if value is not None}, "expand")
    splits = read_splits(options.splits or records.folder / "splits.json", records, options.allow_leak)
    expanded = expand_records(
        records, splits, options.out, settings, options.workers, options.overwrite, options.allow_leak
    )
    refused = expanded.manifest["refused"]
    if refused:
        reasons = "".join(f"\n  {item['reason']}" for item in refused)
        _warn(f"{len(refused)} images were left out:{reasons}")
    parts = read_splits(expanded.folder / "splits.json", expanded, options.allow_leak)
    counts = {part: len(names) for part, names in parts.items()}
    return {"folder": str(expanded.folder), **counts, "refused": refused}, format_expansion(expanded, parts)


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
        run = start_run(recipe, records, options.out, options.splits, options.overwrite, options.allow_leak)
    for warning in run.state.get("warnings", ()):
        _warn(warning)
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
    for warning in run.state.get("warnings", ()):
        _warn(warning)
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
        "images": "images that no table or annotation names, left out: {}. Name them there to take them in.",
        "masks": "masks of no image, left out: {}. Name them after their image, in a folder like its own.",
    }
    return [remedies[kind].format(listed(names)) for kind, names in loose.items() if names]


def _warn(message: str) -> None:
    print(f"ustoolkit: {message}", file=sys.stderr)
