"""Optimisers by name, with what mixed precision and clipping need around them."""

import tf_keras as keras

from ustoolkit.recipe.training import TrainingSettings

_NOT_DECAYED = ["bias", "gamma", "beta"]  # of adamw: offsets and the factors of normalisation stay as they are


def make_optimizer(settings: TrainingSettings, learning_rate: float, precision: str) -> keras.optimizers.Optimizer:
    """Makes the optimiser of a recipe.

    AdamW takes its decay from the weights (Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019);
    for the others the trainer adds `weight_decay` to the gradients. A gradient that is too long is shortened after
    those of all devices are added up, and after the loss scale is taken out.

    Args:
        settings: optimiser, decay, longest gradient.
        learning_rate: of the first step.
        precision: 'float16' scales the loss up before the gradients are taken, and skips steps in which one of them is
            no number (Micikevicius et al., Mixed precision training, ICLR 2018).
    Returns:
        the optimiser; for float16 a `LossScaleOptimizer` around it.
    """
    clip = {"global_clipnorm": settings.clip_norm} if settings.clip_norm else {}
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, **clip)
    elif settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=settings.weight_decay, **clip)
        optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    else:
        optimizer = keras.optimizers.Adam(learning_rate, **clip)
    return keras.mixed_precision.LossScaleOptimizer(optimizer) if precision == "float16" else optimizer


def added_decay(settings: TrainingSettings) -> float:
    """The L2 term that the trainer adds to gradients; 0 where the optimiser decays weights itself."""
    return 0.0 if settings.optimizer == "adamw" else settings.weight_decay
