"""The head of a network, trained on features of its frozen backbone before any of its layers open."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.models.classifiers import FEATURES
from ustoolkit.run import Run
from ustoolkit.training.features import bottleneck_features
from ustoolkit.training.label_loss import label_cross_entropy
from ustoolkit.training.tasks import ClassificationTask

_BATCH = 32
_PATIENCE = 15  # epochs without a lower validation loss


def train_head(model: keras.Model, task: ClassificationTask, run: Run, strategy: tf.distribute.Strategy) -> str:
    """Trains the layers behind the pooled features by Adam; the epoch of the lowest validation loss is kept.

    Args:
        model: of `ustoolkit.models.classifiers`; the weights of its head are changed.
        task: regions, and the loss.
        run: its `classification.transfer` says how long and how fast; features are kept in it.
        strategy: where the model is.
    Returns:
        a line that says what came of it; kept in `run.json` as `head`.
    """
    settings = run.recipe.classification.transfer
    train, validation = task.regions
    features = bottleneck_features(model, train, run, "train")
    held_out = bottleneck_features(model, validation, run, "validation")
    loss, plain = task.training_loss, label_cross_entropy(None)
    with strategy.scope():
        head = keras.Model(model.get_layer(FEATURES).output, model.output)
        head.compile(
            keras.optimizers.Adam(settings.head_learning_rate),
            loss=lambda truth, logits: loss(logits, tf.cast(truth[:, 0], tf.int64)),
        )
        history = head.fit(
            features,
            train.truth[:, np.newaxis],
            batch_size=_BATCH,
            epochs=settings.head_epochs,
            validation_data=(held_out, validation.truth[:, np.newaxis]),
            callbacks=[keras.callbacks.EarlyStopping(patience=_PATIENCE, restore_best_weights=True)],
            verbose=0,
        ).history
    logits = head(held_out, training=False)
    lowest = float(tf.reduce_mean(plain(logits, tf.constant(validation.truth))))
    outputs = task.validation_outputs(logits, tf.constant(validation.truth)).numpy()
    _, auc = task.validation_scores(outputs)
    epochs = len(history["loss"])
    run.update(head={"epochs": epochs, "validation_loss": round(lowest, 6), "validation_auc": round(auc, 6)})
    return f"head trained on frozen features: {epochs} epochs, validation AUC {auc:.3f}"
