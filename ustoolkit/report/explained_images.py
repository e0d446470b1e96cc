"""Where in images a run's decisions come from, as a panel of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ustoolkit.data.given_images import GivenImage
from ustoolkit.data.lesions import lesion_mask
from ustoolkit.data.resize import mask_to_network, to_original
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, RecipeError
from ustoolkit.explain.attribution import compiled_logits
from ustoolkit.explain.methods import Method, patch_of
from ustoolkit.explain.occlusion import occlusion
from ustoolkit.explain.sanity import sanity_check
from ustoolkit.explain.subject import Subject
from ustoolkit.explain.target import LabelTarget, RegionTarget, Target
from ustoolkit.files import safe_name
from ustoolkit.inference.classifier import RunClassifier
from ustoolkit.recipe.validation import nearest
from ustoolkit.report import attribution_figures
from ustoolkit.run import Run

LesionOf = Callable[[Sample], np.ndarray | None]
"""uint8 (height, width), not 0 where the lesion of an image is; None for what the image's own data say."""


@dataclass(frozen=True)
class ImageRequest:
    """What of images is to be explained.

    Attributes:
        methods: ways to explain, by name.
        target: name of a class of a segmenter, or of a label; '' for the first lesion class, or the label decided on.
        region: left, top, width and height, pixels of the image, for a segmenter; None for where it finds the class.
        layer: whose features Grad-CAM looks at; None for the one that says most.
        sanity: whether the maps are tested with random weights.
        over_image: whether the methods look at the mean of a class over the whole image, as keras-vis does.
        lesion_of: finds the lesion that a classifier looks at.
    """

    methods: Mapping[str, Method]
    target: str = ""
    region: tuple[int, int, int, int] | None = None
    layer: str | None = None
    sanity: bool = False
    over_image: bool = False
    lesion_of: LesionOf = lambda sample: None


def explain_images(
    subject: Subject,
    images: Iterable[tuple[GivenImage, Sample]],
    request: ImageRequest,
    folder: Path,
    refused: list[str],
) -> list[dict[str, Any]]:
    """Draws for each image which parts of it speak for a decision of a network.

    Writes `images/<name>.png`, and with the test `images/<name>_sanity.png`.

    Args:
        subject: the network, which ends in the decision itself.
        images: with their names.
        request: what is explained, and how.
        folder: where the pictures go.
        refused: where reasons are added why images could not be explained.
    Returns:
        what was found for each, JSON-serialisable.
    Raises:
        RecipeError: no such class, label or region.
        RunError: no such layer.
        OutputError: a picture cannot be written.
    """
    rows = []
    for image, sample in images:
        try:
            row = _explained(subject, image, sample, request, folder)
        except DataError as problem:
            refused.append(str(problem))
            continue
        rows.append(row)
    return rows


def explain_by_occlusion(
    run: Run,
    images: Iterable[tuple[GivenImage, Sample]],
    request: ImageRequest,
    folder: Path,
    refused: list[str],
) -> list[dict[str, Any]]:
    """Draws which parts of images a classifier of scikit-learn needs, by covering one after another.

    Args:
        run: it classifies by measurements, or by features of a frozen network.
        images, request, folder, refused: as `explain_images` takes them.
    Returns:
        as `explain_images`.
    Raises:
        RecipeError: no such label.
        RunError: the run is not finished.
    """
    classifier, rows = RunClassifier(run), []
    for image, sample in images:
        try:
            lesion = _lesion(request, sample, classifier)
            whole = classifier.combined(classifier.raw([sample], [lesion], 1))[0]
            label = _index(run.labels, request.target, "label") if request.target else int(whole.argmax())

            def score(pixels: np.ndarray, sample: Sample = sample, lesion: np.ndarray = lesion, label: int = label):
                covered = [replace(sample, image=each) for each in pixels.round().clip(0, 255).astype(np.uint8)]
                raw = classifier.raw(covered, [lesion] * len(covered), len(covered))
                return classifier.combined(raw)[:, label]

            inputs = sample.image[np.newaxis].astype(np.float32)
            falls = occlusion(score, inputs, *patch_of(sample.image))[0]
        except DataError as problem:
            refused.append(str(problem))
            continue
        caption = f"probability of '{run.labels[label]}' {whole[label]:.3f}, not calibrated"
        panel = folder / "images" / f"{safe_name(image.name)}.png"
        attribution_figures.attribution_panel(sample.image, {"occlusion": falls}, panel, lesion, caption)
        rows.append(
            {
                "image": image.name,
                "file": image.file,
                "target": run.labels[label],
                "score": float(whole[label]),
                "panel": f"images/{panel.name}",
            }
        )
    return rows


def _explained(
    subject: Subject, image: GivenImage, sample: Sample, request: ImageRequest, folder: Path
) -> dict[str, Any]:
    lesion = request.lesion_of(sample)
    inputs = subject.inputs(sample, lesion)
    logits = compiled_logits(subject.model)(inputs[np.newaxis])
    target, words = _target(subject, sample, logits, request)
    score = float(target.score(logits)[0])
    maps = {name: method(subject.model, inputs, target, request.layer) for name, method in request.methods.items()}
    shown, brought, outline = _view(subject, sample, inputs, maps, target, logits)
    panel = folder / "images" / f"{safe_name(image.name)}.png"
    attribution_figures.attribution_panel(shown, brought, panel, outline, f"{words}: {score:.4g}")
    row = {
        "image": image.name,
        "file": image.file,
        "target": words,
        "score": score,
        "panel": f"images/{panel.name}",
    }
    if request.sanity:
        row["sanity"] = _sanity(subject, inputs, target, request, folder / "images" / f"{panel.stem}_sanity")
    return row


def _sanity(subject: Subject, inputs: np.ndarray, target: Target, request: ImageRequest, base: Path) -> dict[str, Any]:
    found = {}
    # What is asked stays the same while the weights change.
    logits = compiled_logits(subject.model)(inputs[np.newaxis])
    fixed = (
        replace(target, mask=(target.weighting(logits) != 0).any(axis=-1))
        if isinstance(target, RegionTarget)
        else target
    )
    for name, method in request.methods.items():
        result = sanity_check(
            subject.model, lambda model, method=method: method(model, inputs, fixed, request.layer)[np.newaxis]
        )
        path = base.with_name(f"{base.name}_{name.replace(' ', '_')}.png")
        attribution_figures.sanity_figure(result.rows, path)
        found[name] = {"passed": result.passed, "message": result.message, "figure": f"images/{path.name}"}
    return found


def _target(subject: Subject, sample: Sample, logits: np.ndarray, request: ImageRequest) -> tuple[Target, str]:
    """What is explained, and in words."""
    run = subject.run
    if run.recipe.classifies:
        if request.region is not None:
            raise RecipeError(f"--region: {run.folder} classifies whole lesions. Leave it out.")
        if request.target:
            label = _index(run.labels, request.target, "label")
        else:
            label = int(logits[0, 0] >= 0) if logits.shape[-1] == 1 else int(logits[0].argmax())
        return LabelTarget(label), f"logit of '{run.labels[label]}'"
    index = _index(run.classes, request.target, "class") if request.target else 1
    if request.over_image:
        whole = np.ones(logits.shape[:-1], bool)
        return RegionTarget(index, whole), f"sum of the logits of '{run.classes[index]}' over the image"
    if request.region is None:
        target = RegionTarget(index)
        where = "where it is found" if target.found(logits)[0] else "over the whole image, found nowhere"
        return target, f"sum of the logits of '{run.classes[index]}', {where}"
    mask = _region_mask(request.region, sample)
    kept = mask_to_network(tf.constant(mask), run.recipe.data).numpy() == 1
    return RegionTarget(index, kept[np.newaxis]), f"sum of the logits of '{run.classes[index]}' over the region"


def _region_mask(region: tuple[int, int, int, int], sample: Sample) -> np.ndarray:
    left, top, wide, high = region
    mask = np.zeros(sample.image.shape[:2], np.uint8)
    if left >= 0 and top >= 0:
        mask[top : top + high, left : left + wide] = 1
    if not mask.any() or min(wide, high) < 1:
        height, width = mask.shape
        raise RecipeError(
            f"--region {left} {top} {wide} {high}: expected left, top, width and height within {sample.source_id}, "
            f"which is {width} wide and {height} high. Choose another."
        )
    return mask


def _view(
    subject: Subject,
    sample: Sample,
    inputs: np.ndarray,
    maps: Mapping[str, np.ndarray],
    target: Target,
    logits: np.ndarray,
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """The picture to show, the maps at its size, and the outline of what is explained, if it has one."""
    data = subject.run.recipe.data
    if subject.run.recipe.classifies:
        shown = inputs[..., : data.channels].round().clip(0, 255).astype(np.uint8)
        mask = (inputs[..., -1] > 0).astype(np.uint8) if inputs.shape[-1] > data.channels else None
        return shown, dict(maps), mask
    size = tf.constant(sample.image.shape[:2])

    def brought(values: np.ndarray) -> np.ndarray:
        whole = tf.constant(values[np.newaxis, ..., np.newaxis], tf.float32)
        return to_original(whole, size, data)[0, ..., 0].numpy()

    asked = (target.weighting(logits)[0] != 0).any(axis=-1)
    outline = None if asked.all() else (brought(asked.astype(np.float32)) >= 0.5).astype(np.uint8)
    return sample.image, {name: brought(values) for name, values in maps.items()}, outline


def _lesion(request: ImageRequest, sample: Sample, classifier: RunClassifier) -> np.ndarray:
    found = request.lesion_of(sample)
    if found is not None:
        return found
    return lesion_mask(sample, classifier.region)


def _index(names: Sequence[str], asked: str, kind: str) -> int:
    if asked not in names:
        raise RecipeError(f"--target {asked}: there is no such {kind}. {nearest(asked, list(names))}")
    return list(names).index(asked)
