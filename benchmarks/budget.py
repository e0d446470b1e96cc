"""What a plain PyTorch U-net reaches in a given time on one machine: published settings, image files to test score.

python benchmarks/budget.py --records tfrecords/busbra --minutes 30 --out budget.json
python benchmarks/budget.py --records tfrecords/busbra --minutes 1         # to try it

The images, their parts and the scores are those of `ustoolkit train` and `ustoolkit evaluate` on the same records, so
that Dice can be compared: mean over the images of the test part, at their own size, the largest component kept.
The clock starts when everything is imported, and runs through reading, training, prediction and scoring.
"""

import argparse
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from budget_pytorch import Network, Trained, at_network_size, train
from torch.nn import functional as F
from turns import cores, machine, print_machine

from ustoolkit.data.records import Records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import PARTS, read_splits
from ustoolkit.evaluation.tables import evaluate_image, summarise_rows
from ustoolkit.files import write_json
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.recipe import Recipe, load_recipe

_SCORES = ("dice", "iou", "hausdorff95_pixel", "hausdorff95_penalised_pixel")
_PACKAGES = ("torch", "numpy", "ustoolkit")


def read_parts(records: Records) -> dict[str, list[Sample]]:
    """The samples of each part of the records' own split."""
    splits = read_splits(records.folder / "splits.json", records)
    return {part: list(records.read(splits[part])) for part in PARTS}


def prepared(samples: Sequence[Sample], recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks at the network's size, as two arrays."""
    images, masks = zip(*(at_network_size(sample.image, sample.mask, recipe) for sample in samples), strict=True)
    return np.stack(images), np.stack(masks)


def test_scores(
    network: Network, samples: Sequence[Sample], images: np.ndarray, recipe: Recipe, classes: list[str]
) -> dict[str, Any]:
    """Predicts images at their own size and scores them as `ustoolkit evaluate` does.

    Args:
        network: with the weights to test.
        samples: the test part.
        images: the same, at the network's size.
        recipe: threshold, and whether the largest component is kept.
        classes: names of the mask values.
    Returns:
        each metric's summary over the images, with intervals over patients.
    """
    rows = []
    for sample, probability in zip(samples, network.probabilities(images), strict=True):
        size = sample.image.shape[:2]
        own = F.interpolate(probability[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        mask = to_mask(own.numpy()[..., np.newaxis], recipe.inference)
        identity = {"source_id": sample.source_id, "patient_id": sample.patient_id, "label": sample.label}
        rows += [{**identity, **row} for row in evaluate_image(sample.mask, mask, classes, sample.spacing_mm)]
    (summary,) = summarise_rows(rows, {})["classes"].values()
    return {name: summary[name] for name in _SCORES}


def within(arguments: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """Everything that the clock covers."""
    start = time.monotonic()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    records = Records(arguments.records)
    samples = read_parts(records)
    arrays = {part: prepared(samples[part], recipe) for part in PARTS}
    network = Network(recipe, arguments.channels_last)
    read = time.monotonic()
    trained = train(network, arrays, recipe, arguments.threads, start + 60 * arguments.minutes)
    ended = time.monotonic()
    network.module.load_state_dict(trained.weights)
    scores = test_scores(network, samples["test"], arrays["test"][0], recipe, records.classes)
    end = time.monotonic()
    seconds = {"reading": read - start, "training and validating": ended - read, "testing": end - ended}
    return {
        "dice": scores["dice"]["mean"],
        "minutes": round((end - start) / 60, 2),
        **_learned(trained),
        "scores": scores,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "images": {part: len(samples[part]) for part in PARTS},
        "records_digest": records.digest,
        "history": trained.history,
    }


def main() -> None:
    """Prints what was reached, and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True, metavar="DIR", help="with their splits.json")
    parser.add_argument("--minutes", type=float, default=30.0, help="from reading to the test's score (default 30)")
    parser.add_argument("--threads", type=int, default=cores(), help="of PyTorch (default: one a core)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other weights, order and changes")
    parser.add_argument("--channels-last", action="store_true", help="the layout in memory that CPUs prefer")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all of it there, as JSON")
    arguments = parser.parse_args()
    recipe = load_recipe("unet")
    about = machine() | {name: version(name) for name in _PACKAGES}
    print_machine(about)
    settings = {name: getattr(arguments, name) for name in ("minutes", "threads", "seed", "channels_last")}
    reached = within(arguments, recipe)
    result = {"settings": {**settings, "recipe": recipe.name}, "machine": about, **reached}
    shown = ("dice", "minutes", "epochs", "best_epoch", "images_per_second", "seconds")
    print("\n".join(f"{name}: {result[name]}" for name in shown))
    if arguments.out:
        write_json(arguments.out, result)


def _learned(trained: Trained) -> dict[str, Any]:
    return {
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "validation_dice": round(trained.best_dice, 4),
        "images_trained": trained.images,
        "images_per_second": round(trained.images / trained.seconds, 2),
    }


if __name__ == "__main__":
    main()
