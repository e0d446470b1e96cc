"""One face for whatever can classify: a network, a frozen one with an estimator, measurements, or several of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from ustoolkit.data.labelled import cut_region
from ustoolkit.data.lesion_table import measure_lesions
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RunError
from ustoolkit.evaluation.calibration import apply_temperature
from ustoolkit.files import read_json
from ustoolkit.models.classifiers import features_of
from ustoolkit.models.estimator import ChosenEstimator
from ustoolkit.models.load import load_model
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.recipe.classifiers import LesionFeaturesSettings
from ustoolkit.run import Run

DECISION_FILE = "decision.json"


@dataclass(frozen=True)
class Decision:
    """From a raw probability to a decision, found on the validation part.

    Attributes:
        temperature: logits are divided by it.
        threshold: of the calibrated probability of the positive label; positive from it on.
        evidence: how both were found.
    """

    temperature: float
    threshold: float
    evidence: dict[str, Any]


class Classifier(Protocol):
    """Something that classifies images with their lesions.

    Attributes:
        folder: where it lies.
        labels: the positive one last.
    """

    folder: Path
    labels: list[str]

    @property
    def region(self) -> RegionSettings:
        """What of an image is looked at."""

    @property
    def members(self) -> int:
        """How many classifiers are averaged; 1 for a single one."""

    @property
    def needs_lesion(self) -> bool:
        """Whether it cannot do without one."""

    def raw(self, samples: Iterable[Sample], masks: Iterable[np.ndarray], count: int) -> np.ndarray:
        """Probabilities before calibration.

        Args:
            samples: the images.
            masks: for each uint8 (height, width), not 0 where the lesion is.
            count: how many there are.
        Returns:
            float64 (members, n, labels).
        """

    def combined(self, raw: np.ndarray) -> np.ndarray:
        """One probability of those of all members, before calibration: float64 (n, labels)."""

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """Source ids by part, of the records that it was trained on; None of any other."""

    @property
    def trained_on(self) -> set[str]:
        """SHA-256 of the pixels of every image that training or validation saw."""


class RunClassifier:
    """Classifies by a run; see `Classifier`."""

    members = 1

    def __init__(self, run: Run) -> None:
        """Loads it.

        Raises:
            RunError: the run does not classify, or is not finished.
        """
        if not run.recipe.classifies:
            raise RunError(
                f"{run.folder}: expected a run that classifies, found one of {run.recipe.model.name}, which segments. "
                "Train a classifier, such as 'ustoolkit train lesion_features'."
            )
        self.folder, self.labels = run.folder, run.labels
        self.region = run.recipe.classification.region
        self.run = run
        self._recipe = run.recipe
        model = run.recipe.model
        self._families = model.families if isinstance(model, LesionFeaturesSettings) else ()
        bottleneck = bool(self._families) or run.recipe.classification.transfer.form == "bottleneck"
        self._estimator = ChosenEstimator.load(run.estimator) if bottleneck else None
        if not self._families:
            network = load_model(run)
            self._network = tf.function(features_of(network) if bottleneck else network, reduce_retracing=True)

    @property
    def needs_lesion(self) -> bool:
        """See `Classifier`."""
        return self.region.source != "image"

    @property
    def trained_on(self) -> set[str]:
        """See `Classifier`."""
        return self.run.trained_on

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """See `Classifier`."""
        return self.run.splits if records_digest == self.run.manifest["digest"] else None

    def raw(self, samples: Iterable[Sample], masks: Iterable[np.ndarray], count: int) -> np.ndarray:
        """See `Classifier`."""
        if self._families:
            found = measure_lesions(samples, masks, self._families, count)
        else:
            found = np.concatenate(list(self._outputs(samples, masks)))
        return (self._estimator.probability(found) if self._estimator else probabilities_of(found))[np.newaxis]

    def combined(self, raw: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        return raw[0]

    def _outputs(self, samples: Iterable[Sample], masks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        inputs = (self._input(*cut_region(s, m, self._recipe)) for s, m in zip(samples, masks, strict=True))
        while chunk := list(islice(inputs, self._recipe.inference.batch_size)):
            yield self._network(tf.constant(np.stack(chunk), tf.float32), training=False).numpy()

    def _input(self, pixels: np.ndarray, lesion: np.ndarray) -> np.ndarray:
        return np.concatenate([pixels, 255 * lesion[..., np.newaxis]], -1) if self.region.mask_channel else pixels


def decision_of(folder: Path) -> Decision:
    """What was found for a run or a fusion.

    Raises:
        RunError: `decision.json` is missing or damaged.
    """
    path = folder / DECISION_FILE
    remedy = "Train or fuse again; a run that is cut short goes on with 'ustoolkit train … --resume'."
    content = read_json(path, RunError, remedy)
    try:
        temperature, threshold = float(content["temperature"]), float(content["threshold"])
        if not (temperature > 0 and 0 <= threshold <= 1):
            raise ValueError
        return Decision(temperature, threshold, dict(content["evidence"]))
    except (KeyError, TypeError, ValueError):
        raise RunError(
            f"{path}: expected temperature, threshold and evidence, found something else. {remedy}"
        ) from None


def calibrated(probability: np.ndarray, decision: Decision) -> np.ndarray:
    """Probabilities, float64 (…, n, labels), with the temperature of a decision."""
    shape = probability.shape
    return apply_temperature(probability.reshape(-1, shape[-1]), decision.temperature).reshape(shape)


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Probabilities before calibration, float64 (n, labels), of logits (n, labels), or (n, 1) for two labels."""
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)
