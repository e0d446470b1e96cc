"""Where in images a run's decisions come from, as a panel of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from scipy.special import expit

from ustoolkit.data.given_images import GivenImage
from ustoolkit.data.lesions import lesion_mask
from ustoolkit.data.resize import mask_to_network, to_original
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, RecipeError
from ustoolkit.explain.attribution import compiled_logits
from ustoolkit.explain.methods import Method, blackened, patch_of
from ustoolkit.explain.occlusion import occlusion
from ustoolkit.explain.sanity import sanity_check
from ustoolkit.explain.subject import Subject
from ustoolkit.explain.target import LabelTarget, RegionTarget, Target
from ustoolkit.inference.classifier import RunClassifier, calibrated, decision_of, probabilities_of
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
        target: name of a class of a segmenter, or of a label; '' for the class found most, or the label decided on.
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

    Writes `images/<name>.png`, and with the test `images/<name>_sanity_<method>.png`. What is decided, and where a
    class is found, is as `diagnose` and `predict` have it, with the thresholds that the run keeps.

    Args:
        subject: the network, which ends in the decision itself.
        images: with their names.
        request: what is explained, and how.
        folder: where the pictures go.
        refused: where reasons are added why images could not be explained.
    Returns:
        what was found for each, JSON-serialisable.
    Raises:
        RecipeError: no such class or label.
        RunError: no such layer, or a classifier is not finished.
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
            whole = _judged(classifier, [sample], [lesion])[0]
            label = _label(run, whole, request)

            def score(
                pixels: np.ndarray, sample: Sample = sample, lesion: np.ndarray = lesion, label: int = label
            ) -> np.ndarray:
                covered = [replace(sample, image=each) for each in pixels.round().clip(0, 255).astype(np.uint8)]
                return _judged(classifier, covered, [lesion] * len(covered))[:, label]

            inputs = sample.image[np.newaxis].astype(np.float32)
            falls = occlusion(score, inputs, *patch_of(sample.image))[0]
        except DataError as problem:
            refused.append(str(problem))
            continue
        caption = f"probability of '{run.labels[label]}': {whole[label]:.3f}"
        panel = folder / "images" / f"{image.name}.png"
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
    masks = inputs.shape[-1] - subject.run.recipe.data.channels
    maps = {
        name: method(subject.model, inputs, target, request.layer, masks) for name, method in request.methods.items()
    }
    shown, brought, outline = _view(subject, sample, inputs, maps, target, logits)
    panel = folder / "images" / f"{image.name}.png"
    attribution_figures.attribution_panel(shown, brought, panel, outline, f"{words}: {score:.4g}")
    row = {
        "image": image.name,
        "file": image.file,
        "target": words,
        "score": score,
        "panel": f"images/{panel.name}",
    }
    if "integrated gradients" in maps:
        black = target.score(compiled_logits(subject.model)(blackened(inputs, masks)[np.newaxis]))
        row["integrated_gradients"] = {"sum": float(maps["integrated gradients"].sum()), "black": float(black[0])}
    if request.sanity:
        row["sanity"] = _sanity(subject, inputs, target, request, folder / "images" / f"{panel.stem}_sanity")
    return row


def _sanity(subject: Subject, inputs: np.ndarray, target: Target, request: ImageRequest, base: Path) -> dict[str, Any]:
    found, masks = {}, inputs.shape[-1] - subject.run.recipe.data.channels
    for name, method in request.methods.items():

        def attribution(model: keras.Model, method: Method = method) -> np.ndarray:
            return method(model, inputs, target, request.layer, masks)[np.newaxis]

        result = sanity_check(subject.model, attribution)
        path = base.with_name(f"{base.name}_{name.replace(' ', '_')}.png")
        attribution_figures.sanity_figure(result.rows, path)
        found[name] = {"passed": result.passed, "message": result.message, "figure": f"images/{path.name}"}
    return found


def _target(subject: Subject, sample: Sample, logits: np.ndarray, request: ImageRequest) -> tuple[Target, str]:
    """What is explained, fixed whatever becomes of the image or the weights, and in words."""
    run = subject.run
    # keras-vis knows no other side of a single output.
    positive = request.over_image and logits.shape[-1] == 1 and not request.target
    if run.recipe.classifies:
        probability = calibrated(probabilities_of(logits), decision_of(run.folder))[0]
        label = 1 if positive else _label(run, probability, request)
        return LabelTarget(label), f"logit of '{run.labels[label]}'"
    found = _classes_found(logits, run.inference.threshold)[0]
    if request.target:
        index = _index(run.classes, request.target, "class")
    else:
        index = 1 if positive else int(np.bincount(found.ravel(), minlength=len(run.classes))[1:].argmax()) + 1
    name = run.classes[index]
    if request.over_image:
        return RegionTarget(index, np.ones((1, *found.shape), bool)), f"sum of the logits of '{name}' over the image"
    if request.region is not None:
        return RegionTarget(
            index, _region(request.region, sample, run)
        ), f"sum of the logits of '{name}' over the region"
    mask = found == index
    where = "where it is found" if mask.any() else "over the whole image, found nowhere"
    return RegionTarget(index, mask[np.newaxis]), f"sum of the logits of '{name}', {where}"


def _classes_found(logits: np.ndarray, threshold: float) -> np.ndarray:
    """int (n, height, width), as predicted before the mask is cleaned."""
    if logits.shape[-1] > 1:
        return logits.argmax(axis=-1)
    return (expit(logits[..., 0]) >= threshold).astype(int)


def _label(run: Run, probability: np.ndarray, request: ImageRequest) -> int:
    """The label asked for, or the one decided on by calibrated probabilities (labels,)."""
    if request.target:
        return _index(run.labels, request.target, "label")
    if len(run.labels) == 2:
        return int(probability[-1] >= decision_of(run.folder).threshold)
    return int(probability.argmax())


def _judged(classifier: RunClassifier, samples: Sequence[Sample], lesions: Sequence[np.ndarray]) -> np.ndarray:
    """Calibrated probabilities, float64 (n, labels)."""
    raw = classifier.combined(classifier.raw(samples, lesions, len(samples)))
    return calibrated(raw, decision_of(classifier.folder))


def _region(region: tuple[int, int, int, int], sample: Sample, run: Run) -> np.ndarray:
    """Bool (1, *image_size), the region as the network sees it."""
    left, top, wide, high = region
    height, width = sample.image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    if min(left, top) >= 0 and min(wide, high) >= 1:
        mask[top : top + high, left : left + wide] = 1
    if not mask.any():
        raise DataError(
            f"{sample.source_id}, --region {left} {top} {wide} {high}: expected left, top, width and height within an "
            f"image that is {width} wide and {height} high. Choose another."
        )
    kept = mask_to_network(tf.constant(mask), run.recipe.data).numpy() == 1
    if not kept.any():
        raise DataError(
            f"{sample.source_id}, --region {left} {top} {wide} {high}: this is less than a pixel of the network, which "
            f"sees {' × '.join(map(str, run.recipe.data.image_size))}. Choose a larger one."
        )
    return kept[np.newaxis]


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
