"""The trained model of a run: built anew from its recipe, its weights loaded."""

import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.models.network_builders import build_model
from ustoolkit.run import Run


def load_model(run: Run) -> keras.Model:
    """Rebuilds the best model of a run.

    Raises:
        RunError: the run has no weights yet, or they do not fit its recipe.
    """
    path = run.best_weights
    if not path.is_file():
        raise RunError(
            f"{run.folder}: expected trained weights in {path.name}, found none. "
            "Train first, or go on with 'ustoolkit train … --resume'."
        )
    model = build_model(run.recipe, len(run.labels if run.recipe.classifies else run.classes))
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as problem:
        raise RunError(f"{path}: the weights are damaged or of another network ({problem}). Train again.") from None
    return model
