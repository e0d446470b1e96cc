"""Settings of inference tuned on a run's validation part: the dense CRF's, by random search, and the threshold.

Nothing here sees the test part, so that scores there still say what new images would give.
"""

import csv
import io
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import tee
from typing import Any

import numpy as np

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.evaluation.overlap import dice
from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.files import check_writable, write_text
from ustoolkit.inference.crf import refined
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.progress import progress, progress_bar
from ustoolkit.recipe.settings import CrfSettings
from ustoolkit.run import Run

# Weights are drawn evenly, deviations evenly by their logarithm; deviations in pixels or in RGB values of 0 to 255.
WEIGHT_RANGE = (0.0, 10.0)
DEVIATION_RANGES = {
    "position_deviation": (5.0, 200.0),
    "intensity_deviation": (2.0, 100.0),
    "smoothness_deviation": (1.0, 30.0),
}
NO_CRF = CrfSettings(appearance_weight=0, smoothness_weight=0)
TUNED_CRF = ("appearance_weight", "smoothness_weight", *DEVIATION_RANGES)
THRESHOLDS = tuple(round(0.05 + 0.025 * step, 3) for step in range(37))  # each costs a pass over every mask


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes:
        values: the best settings, by name.
        before: mean Dice in [0, 1] on the images without the CRF, or with the recipe's threshold.
        best: the same with the best settings.
        difference: best minus before, with its 95 % interval over patients. The best of many tries was chosen on
            these very images, so it flatters.
        images: how many there were.
    """

    values: dict[str, float]
    before: float
    best: float
    difference: PairedDifference
    images: int


def tune_crf(run: Run, records: Records, trials: int, images: int, seed: int, workers: int = 0) -> Tuning:
    """Searches the weights and deviations of the dense CRF that give the best mean Dice on validation images.

    The first trial has the recipe's own values, the others are drawn at random, as Bergstra and Bengio advise
    ("Random search for hyper-parameter optimization", JMLR, 2012): the weights between 0 and 10, σp between 5 and 200
    pixels, σI between 2 and 100, and the smoothness term's deviation, for half of the trials between 1 and 30 pixels,
    for the others σp. A trial depends on the seed and its number only. Masks are made as `run.inference` says, but
    for the CRF; so tune the threshold first. Writes `tuning/crf.csv` and keeps the best values in `run.tuned`, also
    where no trial gains; whether the CRF is on is not changed. Interrupted, it leaves the run as it was.

    Args:
        run: a trained run.
        records: those it was trained on.
        trials: how many, at least 1.
        images: at most so many of the annotated images of the validation part, drawn at random; at least 1.
        seed: of the draw of images and of the trials; at least 0.
        workers: processes for the CRF; 0 for one a core. It changes nothing of the result.
    Returns:
        the best values and what they gain over no CRF.
    Raises:
        RecipeError: no trials or no images asked for.
        RecordsError: not the run's records, or no validation image there has a lesion.
        RunError: the run has no weights, or its `tuned.json` is damaged.
        OutputError: the run cannot be written to.
    """
    for option, number in (("--trials", trials), ("--images", images)):
        if number < 1:
            raise RecipeError(f"{option} {number}: expected 1 or more.")
    rows = _validation_rows(run, records, images, seed)
    check_writable(run.folder)
    segmenter = RunSegmenter(run)
    own = {name: getattr(run.recipe.inference.crf, name) for name in TUNED_CRF}
    tried = [own, *(draw_crf(seed, number) for number in range(2, trials + 1))]
    searched = [NO_CRF, *(segmenter.inference.crf.model_copy(update=values) for values in tried)]
    with progress_bar((1 + len(searched)) * len(rows), "tuning the CRF") as bar:
        outputs = []  # at the network's size: exact, and far smaller than at the images'
        for output in segmenter.outputs(_images(records, rows)):
            outputs.append(output)
            bar.update()
        scores = []
        with closing(_scores(segmenter, records, rows, outputs, searched, workers)) as found:
            for score in found:
                scores.append(score)
                bar.update()
    without, *others = np.reshape(scores, (len(searched), len(rows)))
    means = [float(np.nanmean(each)) for each in others]
    best = int(np.argmax(means))  # of equal ones the first
    table = [["without", *[""] * len(TUNED_CRF), float(np.nanmean(without))]]
    pairs = zip(tried, means, strict=True)
    table += [[number, *values.values(), mean] for number, (values, mean) in enumerate(pairs, start=1)]
    tuning = _tuning(tried[best], without, others[best], rows)
    _write_table(run, "crf.csv", ("trial", *TUNED_CRF, "mean_dice"), table)
    how: dict[str, Any] = {"trials": trials, "most_images": images, "seed": seed, "best_trial": best + 1}
    how["otherwise"] = {
        **segmenter.inference.model_dump(mode="json", exclude={"crf", "batch_size"}),
        "crf": {"iterations": segmenter.inference.crf.iterations},
    }
    run.keep_tuned("crf", {"crf": tried[best]}, _evidence(run, tuning, "dice_without_crf", how))
    return tuning


def tune_threshold(run: Run, records: Records, workers: int = 0) -> Tuning:
    """Searches the threshold that gives the best mean Dice on the validation part: 0.05 to 0.95 in steps of 0.025.

    The recipe's own threshold is tried too. Of equal ones that nearest to 0.5 is taken, then the lower. Masks are made
    as `run.inference` says, with the CRF where that is on. Writes `tuning/threshold.csv` and keeps the threshold in
    `run.tuned`. Interrupted, it leaves the run as it was.

    Args:
        run: a trained run of two classes.
        records: those it was trained on.
        workers: processes for the CRF, where it is on; 0 for one a core.
    Returns:
        the best threshold and what it gains over the recipe's.
    Raises:
        RecordsError: not the run's records, or no validation image there has a lesion.
        RunError: the run has more classes, has no weights, or its `tuned.json` is damaged.
        OutputError: the run cannot be written to.
    """
    if len(run.classes) != 2:
        raise RunError(
            f"{run.folder}: expected a run of two classes, found {len(run.classes)} ({', '.join(run.classes)}). Of "
            "more than two each pixel takes the most probable, so there is no threshold; leave this run as it is."
        )
    rows = _validation_rows(run, records)
    check_writable(run.folder)
    segmenter = RunSegmenter(run)
    inference, own = segmenter.inference, run.recipe.inference.threshold
    thresholds = sorted({*THRESHOLDS, own})
    settings = [inference.model_copy(update={"threshold": threshold}) for threshold in thresholds]
    scores = np.empty((len(thresholds), len(rows)))
    with ExitStack() as stack:
        probabilities = segmenter.probabilities(_images(records, rows))
        if inference.crf.enabled:
            smoothed = refined(probabilities, _images(records, rows), inference.crf, workers)
            probabilities = stack.enter_context(closing(smoothed))
        pairs = zip(_samples(records, rows), probabilities, strict=True)
        for image, (sample, probability) in enumerate(progress(pairs, "tuning the threshold", total=len(rows))):
            for number, each in enumerate(settings):
                scores[number, image] = image_dice(sample.truth, to_mask(probability, each), 2)
    means = [float(np.nanmean(of_images)) for of_images in scores]
    best = min(range(len(means)), key=lambda number: (-means[number], round(abs(thresholds[number] - 0.5), 9)))
    tuning = _tuning({"threshold": thresholds[best]}, scores[thresholds.index(own)], scores[best], rows)
    _write_table(run, "threshold.csv", ("threshold", "mean_dice"), zip(thresholds, means, strict=True))
    how = {"recipe_threshold": own, "otherwise": inference.model_dump(mode="json", exclude={"threshold", "batch_size"})}
    run.keep_tuned("threshold", tuning.values, _evidence(run, tuning, "dice_with_recipe_threshold", how))
    return tuning


def draw_crf(seed: int, number: int) -> dict[str, float]:
    """The values of one trial of `tune_crf`; see there.

    Args:
        seed: at least 0.
        number: of the trial, at least 0.
    Returns:
        the settings of `CrfSettings` that are tuned, to four digits; a smoothness deviation of 0 stands for σp.
    """
    generator = np.random.default_rng([seed, number])
    drawn = [generator.uniform(*WEIGHT_RANGE), generator.uniform(*WEIGHT_RANGE)]
    for low, high in DEVIATION_RANGES.values():
        drawn.append(math.exp(generator.uniform(math.log(low), math.log(high))))
    if generator.random() < 0.5:
        drawn[-1] = 0.0
    return {name: float(f"{value:.4g}") for name, value in zip(TUNED_CRF, drawn, strict=True)}


def image_dice(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> float:
    """Dice of one image, averaged over the lesion classes on which it is defined.

    Args:
        truth: uint8 (height, width), class indices.
        prediction: uint8 (height, width), class indices.
        num_classes: with the background.
    Returns:
        float in [0, 1]; NaN where neither mask holds a lesion.
    """
    of_classes = [dice(truth == index, prediction == index) for index in range(1, num_classes)]
    defined = [value for value in of_classes if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _validation_rows(run: Run, records: Records, most: int | None = None, seed: int = 0) -> list[IndexRow]:
    """The annotated validation images, or some of them, in the order of the records."""
    if records.digest != run.manifest["digest"]:
        raise RecordsError(
            f"{records.folder}: these are not the records that {run.folder} was trained on, and a run is tuned on its "
            "own validation part. Leave out --records, or name the right ones."
        )
    names = set(run.splits.get("validation", ()))
    rows = [row for row in records.index if row.source_id in names and row.lesion_fraction is not None]
    if not any(row.lesion_fraction for row in rows):
        raise RecordsError(
            f"{run.folder}: expected annotated lesions in its validation part, found none on its {len(rows)} annotated "
            "images. Train with a split whose validation part has some; see 'ustoolkit split'."
        )
    if most is None or most >= len(rows):
        return rows
    drawn = np.random.default_rng([seed, 0]).permutation(len(rows))[:most]
    chosen = [rows[number] for number in sorted(drawn)]
    if not any(row.lesion_fraction for row in chosen):
        raise RecordsError(f"{run.folder}: no lesion on the {most} validation images drawn. Draw more with --images.")
    return chosen


def _samples(records: Records, rows: list[IndexRow]) -> Iterator[Sample]:
    return records.read([row.source_id for row in rows])


def _images(records: Records, rows: list[IndexRow]) -> Iterator[np.ndarray]:
    return (sample.image for sample in _samples(records, rows))


def _scores(
    segmenter: RunSegmenter,
    records: Records,
    rows: list[IndexRow],
    outputs: list[tuple[np.ndarray, ...]],
    searched: Sequence[CrfSettings],
    workers: int,
) -> Generator[float]:
    """Dice of each image with one setting after the other, from the network's outputs; by the same processes all."""
    samples, images = tee(sample for _ in searched for sample in _samples(records, rows))
    probabilities = (
        segmenter.restored(output, (row.height, row.width))
        for _ in searched
        for output, row in zip(outputs, rows, strict=True)
    )
    settings = (crf for crf in searched for _ in rows)
    # Closed, its processes end where the search is interrupted.
    with closing(refined(probabilities, (sample.image for sample in images), settings, workers)) as results:
        for sample, probability in zip(samples, results, strict=True):
            mask = to_mask(probability, segmenter.inference)
            yield image_dice(sample.truth, mask, len(segmenter.classes))


def _tuning(values: dict[str, float], before: np.ndarray, best: np.ndarray, rows: list[IndexRow]) -> Tuning:
    difference = paired_difference([best], [before], [row.patient_id for row in rows])
    return Tuning(values, float(np.nanmean(before)), float(np.nanmean(best)), difference, len(rows))


def _evidence(run: Run, tuning: Tuning, before: str, how: dict[str, Any]) -> dict[str, Any]:
    """What `tuned.json` says of a tuning, `before` the name of that score; and which epoch's weights it was for."""
    return {
        "part": "validation",
        "epoch": run.state.get("best_epoch"),
        "images": tuning.images,
        before: tuning.before,
        "dice_tuned": tuning.best,
        "difference": {**asdict(tuning.difference), "verdict": tuning.difference.verdict},
        **how,
    }


def _write_table(run: Run, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(run.folder / "tuning" / name, text.getvalue())
