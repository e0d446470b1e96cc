"""Which layers of a network that classifies learn, and which stay as they are."""

import re
from collections.abc import Sequence

import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.classifiers import BACKBONE, backbone_layers
from ustoolkit.recipe.toml import nearest


def open_layers(model: keras.Model, which: str | int | Sequence[str]) -> list[str]:
    """Lets some layers of the backbone learn; the others keep weights and statistics, and the head always learns.

    A batch normalization that does not learn works as at inference while the rest is trained.

    Args:
        model: of `ustoolkit.models.classifiers`; its layers' `trainable` is changed.
        which: as `classification.transfer.open_layers` says.
    Returns:
        names of the backbone's layers that are open, shallow ones first.
    Raises:
        RecipeError: no layer has such a name.
    """
    names = backbone_layers(model)
    if which == "all":
        chosen = set(names)
    elif which == "none":
        chosen = set()
    elif isinstance(which, int):
        chosen = set(names[-which:])
    else:
        for beginning in which:
            if not any(name.startswith(beginning) for name in names):
                raise RecipeError(
                    f"classification.transfer.open_layers: no layer of {model.name} begins with '{beginning}'. "
                    f"{nearest(beginning, names)} Its layers begin with {', '.join(_beginnings(names))}."
                )
        chosen = {name for name in names if name.startswith(tuple(which))}
    backbone = model.get_layer(BACKBONE)
    for name in names:
        backbone.get_layer(name).trainable = name in chosen
    return [name for name in names if name in chosen]


def _beginnings(names: Sequence[str]) -> list[str]:
    """First words of layers' names, each once, in order."""
    return list(dict.fromkeys(re.split("[_/]", name)[0] for name in names))
