"""The command line: one command a stage. Nothing heavy is imported before a command is known."""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from ustoolkit import __version__
from ustoolkit.errors import RecordsError, RunError, UstoolkitError

Outcome = tuple[dict[str, Any], str]  # a command's result for a script, and for a person


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: as after `ustoolkit`; None for those of the process.
    Returns:
        the exit code: 0 done, 2 the user's input is wrong, 1 a fault of ours, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's own start-up messages help nobody here
    try:
        result, text = options.run(options)
        print(json.dumps(result, indent=2, ensure_ascii=False) if options.json else text)
        return 0
    except UstoolkitError as problem:
        print(f"ustoolkit: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("ustoolkit: interrupted. What was finished is kept; training goes on with --resume.", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print("ustoolkit: a fault of ours, not of your input. Please report the lines above.", file=sys.stderr)
        return 1


def _phantom(options: argparse.Namespace) -> Outcome:
    from ustoolkit.data.phantom import write_phantoms

    out = write_phantoms(
        options.out, options.count, options.seed, tuple(options.size), options.frame, options.overwrite
    )
    return {"folder": str(out), "images": options.count}, f"{options.count} phantoms in {out}"


def _inspect(options: argparse.Namespace) -> Outcome:
    from ustoolkit.data.audit import audit, format_audit, listed, orphan_masks
    from ustoolkit.data.readers import open_data_set

    root, settings = _data_set(options)
    result = audit(open_data_set(root, settings), settings.labels, options.workers)
    result["masks_without_image"] = orphan_masks(root)
    text = format_audit(result)
    if result["masks_without_image"]:
        text += f"\n! masks without an image: {listed(result['masks_without_image'])}. Rename them after their image."
    return result, text


def _records(options: argparse.Namespace) -> Outcome:
    from ustoolkit.data.readers import open_data_set
    from ustoolkit.data.records import write_records
    from ustoolkit.data.split import split_patients, write_splits

    root, settings = _data_set(options)
    records = write_records(open_data_set(root, settings), options.out, settings, options.workers, options.overwrite)
    counts, refused = records.manifest["counts"], records.manifest["refused"]
    lines = [f"{counts['images']} images of {counts['patients']} patients in {options.out}"]
    try:
        splits = split_patients(records.index)
        write_splits(records.folder / "splits.json", splits, {"test": 0.2, "validation": 0.15, "seed": 0})
        parts = ", ".join(f"{part} {len(names)}" for part, names in splits.items())
        lines.append(f"split by patient: {parts} (another one: ustoolkit split {options.out})")
    except RecordsError as problem:
        _warn(f"no split made: {problem}")
    if counts["patients"] == counts["images"] > 1 and not settings.patient:
        _warn("every image counts as a patient of its own; if patients have several, say how with --patient REGEX.")
    if counts["unlabelled"]:
        _warn(f"{counts['unlabelled']} images have no mask; they are kept, and not trained on.")
    if refused:
        reasons = "".join(f"\n  {item['reason']}" for item in refused)
        _warn(f"{len(refused)} images were refused, the rest is converted:{reasons}")
    return {"folder": str(options.out), **counts, "refused": refused}, "\n".join(lines)


def _split(options: argparse.Namespace) -> Outcome:
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import split_patients, write_splits

    records = Records(options.records)
    how = {
        "test": options.test,
        "validation": options.validation,
        "seed": options.seed,
        "fold_attribute": options.fold_attribute,
        "test_folds": options.test_folds,
    }
    splits = split_patients(records.index, **how)
    out = options.out or records.folder / "splits.json"
    write_splits(out, splits, how)
    counts = {part: len(names) for part, names in splits.items()}
    return {"file": str(out), **counts}, f"{', '.join(f'{part} {n}' for part, n in counts.items())} in {out}"


def _train(options: argparse.Namespace) -> Outcome:
    from ustoolkit.data.records import Records
    from ustoolkit.recipe import load_recipe
    from ustoolkit.training.start import resume_run, start_run

    overrides = [*options.set, *([f"training.strategy={options.strategy}"] if options.strategy else [])]
    recipe = load_recipe(options.recipe, overrides)
    records = Records(options.records)
    if options.resume:
        if overrides or options.overwrite or options.splits:
            raise RunError("--resume goes on with the run's own recipe and split; leave out --set, --strategy, --splits.")
        run = resume_run(records, options.out)
        if run.recipe.name != recipe.name:
            raise RunError(f"{options.out}: this run's recipe is '{run.recipe.name}', not '{recipe.name}'. Name that.")
    else:
        run = start_run(recipe, records, options.out, options.splits, options.overwrite)
    from ustoolkit.training.trainer import train

    state = train(run, records)
    text = (
        f"validation Dice {state.best_score:.3f} (epoch {state.best_epoch} of {state.epoch}, "
        f"{state.seconds / 60:.1f} min; {run.state['stopped_because']}); run in {run.folder}"
    )
    return {"run": str(run.folder), **run.state}, text


def _evaluate(options: argparse.Namespace) -> Outcome:
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


def _predict(options: argparse.Namespace) -> Outcome:
    from ustoolkit.files import check_writable

    check_writable(options.out)
    from ustoolkit.inference.predict import predict_paths
    from ustoolkit.inference.segmenter import load_segmenter

    predictions = predict_paths(load_segmenter(options.model), options.images, options.out, options.split)
    if predictions.refused:
        _warn(f"{len(predictions.refused)} images were refused:\n  " + "\n  ".join(predictions.refused))
    result = {"masks": [str(path) for path in predictions.written], "refused": predictions.refused}
    return result, f"{len(predictions.written)} masks and overlays in {options.out}"


def _export(options: argparse.Namespace) -> Outcome:
    from ustoolkit.files import check_replaceable
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    out = options.out or run.folder / "export"
    check_replaceable(out, options.overwrite, owned_by="saved_model.pb")
    from ustoolkit.export.saved_model import export_saved_model

    export_saved_model(run, out, options.overwrite)
    return {"saved_model": str(out)}, f"SavedModel in {out}"


def _report(options: argparse.Namespace) -> Outcome:
    from ustoolkit.data.records import Records
    from ustoolkit.report.html import write_report
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    path = write_report(run, Records(options.records) if options.records else None, options.split)
    return {"report": str(path)}, f"report in {path}"


def _models(options: argparse.Namespace) -> Outcome:
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


def _warn(message: str) -> None:
    print(f"ustoolkit: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ustoolkit", description="Annotated ultrasound images in, segmentation out: one command a stage."
    )
    parser.add_argument("--version", action="version", version=f"ustoolkit {__version__}")
    commands = parser.add_subparsers(title="stages, in order", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print the result as JSON")
        added.set_defaults(run=run)
        return added

    def output(added: argparse.ArgumentParser, text: str, required: bool = True) -> None:
        added.add_argument("--out", type=Path, required=required, metavar="DIR", help=text)
        added.add_argument("--overwrite", action="store_true", help="replace what an earlier call left there")

    def source(added: argparse.ArgumentParser) -> None:
        added.add_argument("path", type=Path, help="folder of images and masks, or a description (TOML)")
        added.add_argument("--format", choices=["phantom", "table", "mask-folder"], help="default: found by looking")
        added.add_argument("--patient", metavar="REGEX", help=r"patient's part of the file name, such as 'case(\d+)'")
        added.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a core)")

    added = command("phantom", _phantom, "simulate annotated ultrasound images")
    output(added, "folder to make")
    added.add_argument("--count", type=int, default=200, metavar="N", help="images (default: 200)")
    added.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other images (default: 0)")
    added.add_argument("--size", type=int, nargs=2, default=[256, 256], metavar=("HEIGHT", "WIDTH"), help="pixels")
    added.add_argument("--frame", action="store_true", help="draw a scanner's frame, text and calipers")

    source(command("inspect", _inspect, "say what a data set holds, and what is wrong with it"))

    added = command("records", _records, "convert a data set to TFRecords")
    source(added)
    output(added, "folder to make")

    added = command("split", _split, "divide records into train, validation and test, by patient")
    added.add_argument("records", type=Path, help="records folder")
    added.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="of the images (default: 0.2)")
    added.add_argument("--validation", type=float, default=0.15, metavar="SHARE", help="of the rest (default: 0.15)")
    added.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, another draw (default: 0)")
    added.add_argument("--fold-attribute", default="", metavar="NAME", help="the data set's own folds, such as Fold")
    added.add_argument("--test-folds", nargs="+", default=[], metavar="FOLD", help="folds that make up the test part")
    added.add_argument("--out", type=Path, metavar="FILE", help="default: splits.json in the records folder")

    added = command("train", _train, "train a recipe")
    added.add_argument("recipe", help="a TOML file, or a shipped recipe: demo, fast, unet")
    added.add_argument("--records", type=Path, required=True, metavar="DIR", help="records folder")
    output(added, "run folder to make")
    added.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    added.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.json in the records folder")
    added.add_argument("--strategy", choices=["auto", "one", "mirrored"], help="devices to train on")
    added.add_argument("--resume", action="store_true", help="go on with an interrupted run")

    added = command("evaluate", _evaluate, "score a run on images it was not trained on")
    added.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")
    added.add_argument("--records", type=Path, metavar="DIR", help="default: those it was trained on")
    added.add_argument("--split", metavar="PART", help="train, validation, test, all (default: test; others' records: all)")
    added.add_argument("--all-components", action="store_true", help="do not reduce masks to their largest region")

    added = command("predict", _predict, "segment images")
    added.add_argument("model", type=Path, metavar="MODEL", help="run folder or exported SavedModel")
    added.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help="image files, folders, records folders")
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for masks and overlays")
    added.add_argument("--split", default="all", metavar="PART", help="of a records folder (default: all)")

    added = command("export", _export, "write a SavedModel for downstream apps")
    added.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")
    output(added, "folder to make (default: RUN/export)", required=False)

    added = command("report", _report, "write a run's one-page report")
    added.add_argument("run_folder", type=Path, metavar="RUN", help="run folder, evaluated")
    added.add_argument("--records", type=Path, metavar="DIR", help="default: those it was trained on")
    added.add_argument("--split", default="test", metavar="PART", help="evaluation to show (default: test)")

    command("models", _models, "list the networks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
