"""The command that explains: what layers have learned, and where in images decisions come from."""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import DataError, RecipeError, RecordsError, RunError

if TYPE_CHECKING:
    import numpy as np

    from ustoolkit.data.given_images import GivenImage
    from ustoolkit.data.sample import Sample
    from ustoolkit.explain.subject import Subject
    from ustoolkit.run import Run

_IMAGES = 32  # of the validation part, to look at layers with


def explain(options: argparse.Namespace) -> Outcome:
    """Shows what a run's layers have learned, or explains its decisions on images, or both."""
    from ustoolkit.data.given_images import check_apart
    from ustoolkit.files import check_replaceable, new_folder, write_json
    from ustoolkit.provenance import versions
    from ustoolkit.report.explanation_section import EXPLANATION_FILE
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    out = options.out or run.explanation
    check_replaceable(out, options.overwrite, owned_by=EXPLANATION_FILE)
    check_apart(out, options.image)
    _check(options)
    result: dict[str, Any] = {
        "model": str(run.folder),
        "epoch": run.state.get("best_epoch"),
        "versions": versions(),
        "refused": [],
    }
    with new_folder(out, options.overwrite, owned_by=EXPLANATION_FILE) as folder:
        if options.image:  # first, since what is wrong with these shows soon
            result["explained"] = _images(run, options, folder, result["refused"])
        if options.layers or not options.image:
            result |= _layers(run, options, folder)
        write_json(folder / EXPLANATION_FILE, result)
    if result["refused"]:
        warn(f"{len(result['refused'])} images were refused:\n  " + "\n  ".join(result["refused"]))
    return {"folder": str(out), **result}, "\n".join([*_lines(result), f"pictures in {out}"])


def _check(options: argparse.Namespace) -> None:
    """Refuses options that are of no use as they are combined."""
    from ustoolkit.report.explanation_figures import MOST_FILTERS

    without_images = {
        "--target": options.target,
        "--region": options.region,
        "--sanity": options.sanity,
        "--segmenter": options.segmenter,
        "--cam-layer": options.cam_layer,
    }
    if not options.image:
        for name, given in without_images.items():
            if given:
                raise RecipeError(f"{name}: expected --image FILE with it, found none. Name images to explain.")
    elif options.compare and not options.layers:
        raise RecipeError("--compare: expected --layers with it and --image. Add --layers all, or names.")
    if options.backprop and options.engine != "keras-vis":
        raise RecipeError(
            f"--backprop {options.backprop}: expected --engine keras-vis with it, found {options.engine}. Add it."
        )
    if options.region and options.engine == "keras-vis":
        raise RecipeError("--region: expected --engine batched with it, found keras-vis, which knows none. Drop one.")
    if not 1 <= options.filters <= MOST_FILTERS:
        raise RecipeError(
            f"--filters: expected 1 to {MOST_FILTERS}, found {options.filters}. Leave it out for 16; others of a layer "
            "are to be had from Python."
        )
    if options.image_size == 0:
        raise RecipeError("--image-size: expected at least 1 pixel, found 0. Leave it out for as much as a layer sees.")


def _layers(run: "Run", options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from ustoolkit.explain.engines import PRESETS
    from ustoolkit.explain.subject import Subject
    from ustoolkit.report.explanation import LayerRequest, explain_layers
    from ustoolkit.run import Run

    subject = Subject(run)
    layers = subject.layers(options.layers or "all")
    before = Subject(Run(options.compare)) if options.compare else None
    chosen = {
        name: getattr(options, name)
        for name in ("steps", "parametrization", "scales", "jitter", "seed")
        if getattr(options, name) is not None
    }
    size = (options.image_size, options.image_size) if options.image_size else None
    settings = replace(PRESETS[options.engine], image_size=size, **chosen)
    request = LayerRequest(layers, options.engine, options.filters, settings, options.backprop)
    return explain_layers(subject, request, _statistics_images(subject, options), folder, before)


def _statistics_images(subject: "Subject", options: argparse.Namespace) -> "np.ndarray | None":
    """Images to look at layers with: of the validation part, or those named; None, with a warning, where are none."""
    from ustoolkit.data.records import records_of

    run = subject.run
    try:
        records = records_of(run, options.records)
        own = records.digest == run.manifest["digest"]
        return subject.inputs_of(records.read(run.splits["validation"] if own else None), _IMAGES)
    except (RecordsError, DataError) as problem:
        if options.records:
            raise
        reason = problem
    if options.image:
        lesion_of = _lesion_finder(run, options)
        samples = (sample for _, sample in _given(run, options, []))
        try:
            return subject.inputs_of(samples, _IMAGES, lesion_of)
        except DataError as problem:
            reason = problem
    warn(f"no statistics of the layers, since there are no images: {reason}")
    return None


def _images(run: "Run", options: argparse.Namespace, folder: Path, refused: list[str]) -> list[dict[str, Any]]:
    from ustoolkit.explain.methods import METHODS, keras_vis_methods
    from ustoolkit.explain.subject import Subject
    from ustoolkit.recipe.classifiers import LesionFeaturesSettings
    from ustoolkit.report.explained_images import ImageRequest, explain_by_occlusion, explain_images

    by_keras_vis = options.engine == "keras-vis"
    methods = keras_vis_methods(options.backprop) if by_keras_vis else METHODS
    region = tuple(options.region) if options.region else None
    lesion_of = _lesion_finder(run, options)
    request = ImageRequest(methods, options.target, region, options.cam_layer, options.sanity, by_keras_vis, lesion_of)
    images = _given(run, options, refused)
    if region and run.recipe.classifies:
        raise RecipeError(f"--region: {run.folder} classifies whole lesions. Leave it out.")
    if run.recipe.classifies and (
        isinstance(run.recipe.model, LesionFeaturesSettings) or run.recipe.classification.transfer.form == "bottleneck"
    ):
        if by_keras_vis or options.sanity or options.cam_layer:
            raise RunError(
                f"{run.folder}: its decision is an estimator's, not a network's, so that only occlusion can explain "
                "it. Leave out --engine keras-vis, --sanity and --cam-layer."
            )
        rows = explain_by_occlusion(run, images, request, folder, refused)
    else:
        rows = explain_images(Subject(run), images, request, folder, refused)
    if not rows:
        raise DataError("no image could be explained:\n  " + "\n  ".join(refused[:5]))
    return rows


def _given(run: "Run", options: argparse.Namespace, refused: list[str]) -> "Iterator[tuple[GivenImage, Sample]]":
    from ustoolkit.data.given_images import given_images, loaded
    from ustoolkit.progress import progress

    images = given_images(options.image, len(run.classes), "all", lambda digest: None)
    return progress(loaded(images, refused), "explaining", total=len(images))


def _lesion_finder(run: "Run", options: argparse.Namespace) -> "Any":
    """What finds the lesion that a classifier looks at: segmenters where they are named, else what images come with."""
    if not options.segmenter:
        if run.recipe.classifies and run.recipe.classification.region.source == "predicted":
            raise RunError(
                f"{run.folder}: it looks at lesions that a segmenter finds. Name one by --segmenter "
                f"{' '.join(run.recipe.classification.region.segmenters)}."
            )
        return partial(_known_lesion, run)
    if not run.recipe.classifies:
        raise RunError(f"{run.folder}: this run segments; --segmenter is for runs that classify. Leave it out.")
    from ustoolkit.inference.lesions import FoundLesions
    from ustoolkit.inference.segmenter import load_segmenters

    find = FoundLesions(load_segmenters(options.segmenter))
    return lambda sample: next(find([sample]))


def _known_lesion(run: "Run", sample: "Sample") -> None:
    """Lets an image pass whose lesion is in its own data, or is not needed."""
    needed = run.recipe.classifies and run.recipe.classification.region.source == "truth"
    if needed and (sample.mask is None or not sample.mask.any()):
        raise DataError(
            f"{sample.source_id}: expected a mask of the lesion that {run.folder} is to look at, found none. Name a "
            "segmenter that finds it by --segmenter, or the folder that holds images and masks."
        )


def _lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if "layers" in result:
        lines += _table(result)
    for change in result.get("changes", ()):
        lines.append(
            f"{change['layer']}: weights moved by {_number(change['weight_distance'])} of their length, "
            f"similarity of what it puts out (CKA) {_number(change['cka'])}, to random weights "
            f"{_number(change['cka_untrained'])}"
        )
    for row in result.get("explained", ()):
        lines.append(f"{row['image']}: {row['target']} {row['score']:.4g}")
        for name, found in row.get("sanity", {}).items():
            lines.append(f"  {name}: {found['message']}")
    return lines


def _table(result: dict[str, Any]) -> list[str]:
    header = ("layer", "filters", "receptive field", "effective", "dead", "zeros")
    rows = [header, *(_cells(row) for row in result["layers"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    field = row["receptive_field"]
    seen = "whole image" if None in field else f"{field[0]:g} × {field[1]:g}"
    if "dead" not in row:
        return row["layer"], str(row["filters"]), seen, "–", "–", "–"
    return (
        row["layer"],
        str(row["filters"]),
        seen,
        _number(row["effective_receptive_field"], 1),
        str(len(row["dead"])),
        "–" if math.isnan(row["sparsity"]) else f"{row['sparsity']:.0%}",
    )


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
