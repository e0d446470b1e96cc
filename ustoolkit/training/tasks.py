"""What a network is trained to do: its batches, its loss, and the validation score that picks the best epoch."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf
import tf_keras as keras
from sklearn.metrics import roc_auc_score

from ustoolkit.data.labelled import LabelledRegions, read_labelled, with_more
from ustoolkit.data.labelled_batches import LabelledBatches
from ustoolkit.data.lesions import LesionFinder
from ustoolkit.data.pipeline import Batches
from ustoolkit.data.reading import Readers
from ustoolkit.data.records import Records
from ustoolkit.data.served_batches import ServedBatches
from ustoolkit.data.shared_batches import SharedBatches
from ustoolkit.data.split import check_trainable
from ustoolkit.models.heads import supervised
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.pixels import OFF
from ustoolkit.run import Run
from ustoolkit.training.class_weights import with_class_weights
from ustoolkit.training.label_loss import label_cross_entropy, label_weights
from ustoolkit.training.losses import hard_dice, over_scales, weighted_sum

SCORES = {"dice": "Dice", "auc": "AUC"}
AnyBatches = Batches | SharedBatches | ServedBatches | LabelledBatches


@dataclass(frozen=True)
class Trial:
    """What a task asks of a run, where some steps are tried and nothing is kept."""

    recipe: Recipe
    splits: dict[str, list[str]]


class Task(Protocol):
    """What the training loop asks of a task.

    Attributes:
        score: name of the validation score, of which more is better: 'dice' or 'auc'.
        num_classes: as `build_model` takes them.
        outputs: numbers that are kept of each validation image.
        training_loss: of what `heads` gives and the targets, float32 (batch,).
    """

    score: str
    num_classes: int
    outputs: int
    training_loss: Callable[..., tf.Tensor]

    @property
    def training(self) -> AnyBatches:
        """The batches to learn from, (image, target)."""

    @property
    def validation(self) -> AnyBatches:
        """Those that choose the best epoch."""

    def heads(self, model: keras.Model) -> keras.Model:
        """The model with all outputs that are supervised."""

    def validation_outputs(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """What is kept of a validation batch, float32 (batch, k)."""

    def validation_scores(self, outputs: np.ndarray) -> tuple[float, float]:
        """Loss and score of the validation part, from float32 (images, k)."""


class SegmentationTask:
    """Masks; see `Task`."""

    score, outputs = "dice", 2

    def __init__(self, run: Run | Trial, records: Records, recipe: Recipe, readers: Readers) -> None:
        several = functools.partial(SharedBatches, readers=readers)
        make: Callable[..., Batches | SharedBatches] = Batches if readers.count == 1 else several
        make = functools.partial(make, folder=run.folder if isinstance(run, Run) else None)
        self.training: Batches | SharedBatches | ServedBatches
        if recipe.data.service == OFF:
            self.training = make(records, run.splits["train"], recipe, training=True)
        else:
            self.training = ServedBatches(records, run.splits["train"], recipe, readers)
        self.validation = make(records, run.splits["validation"], recipe, training=False)
        self.num_classes = len(records.classes)
        loss = with_class_weights(run.recipe.loss, self.training.masks(), self.num_classes)
        self.training_loss, self._validation_loss = over_scales(loss), weighted_sum(loss)

    def heads(self, model: keras.Model) -> keras.Model:
        """The full-resolution head, and where there is one the half-resolution head."""
        return supervised(model)

    def validation_outputs(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Loss and Dice of each image."""
        return tf.stack([self._validation_loss(logits, targets), hard_dice(logits, targets)], axis=1)

    def validation_scores(self, outputs: np.ndarray) -> tuple[float, float]:
        """Mean loss and mean Dice."""
        loss, dice = outputs.mean(axis=0)
        return float(loss), float(dice)


class ClassificationTask:
    """Labels; see `Task`.

    Attributes:
        regions: of the training part with what was made of it, and of the validation part.
    """

    score, outputs = "auc", 3

    def __init__(self, run: Run, records: Records, find: LesionFinder, recipe: Recipe | None = None) -> None:
        self.regions = read_parts(run, records, find)
        train, validation = self.regions
        recipe = recipe or run.recipe  # as it is, or with the batch that devices make
        self.training = LabelledBatches(train, recipe, training=True)
        self.validation = LabelledBatches(validation, recipe, training=False)
        self.num_classes = len(run.labels)
        self.training_loss = label_cross_entropy(
            label_weights(run.recipe.classification.balance, train.truth, run.labels)
        )
        self._validation_loss = label_cross_entropy(None)

    def heads(self, model: keras.Model) -> keras.Model:
        """The model itself."""
        return model

    def validation_outputs(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Loss, logit of the positive label against the others, and label of each image."""
        if logits.shape[-1] == 1:
            positive = logits[:, 0]
        else:
            positive = logits[:, -1] - tf.reduce_logsumexp(logits[:, :-1], axis=1)
        return tf.stack([self._validation_loss(logits, targets), positive, tf.cast(targets, tf.float32)], axis=1)

    def validation_scores(self, outputs: np.ndarray) -> tuple[float, float]:
        """Mean loss, and ROC AUC of the positive label against the others; NaN where a logit is no number."""
        loss, positive, truth = outputs.T
        if not np.isfinite(positive).all():
            return float(loss.mean()), float("nan")
        return float(loss.mean()), float(roc_auc_score(truth == self.num_classes - 1, positive))


def read_parts(run: Run, records: Records, find: LesionFinder) -> tuple[LabelledRegions, LabelledRegions]:
    """Regions of the training part, with what its settings make of it, and of the validation part as it is.

    Args:
        run: says which images, which labels, and what is made.
        records: where they are.
        find: where their lesions are.
    Raises:
        RecordsError, DataError: as of `read_labelled` and `with_more`; or a part is empty.
    """
    parts = []
    for part, purpose in (("train", "training"), ("validation", "validation")):
        check_trainable(run.splits[part], records, purpose, needs="label")
        parts.append(read_labelled(records, run.splits[part], run.labels, run.recipe, find))
    return with_more(parts[0], run.labels, run.recipe), parts[1]
