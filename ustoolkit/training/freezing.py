"""Which layers of a network learn, and which stay as they are."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import tf_keras as keras

from ustoolkit.errors import RecipeError
from ustoolkit.models.blocks import network_blocks, network_parts
from ustoolkit.models.classifiers import backbone_layers
from ustoolkit.models.deeplab import BACKBONE
from ustoolkit.models.transfer import weighted_layers
from ustoolkit.recipe.validation import nearest


def open_layers(model: keras.Model, which: str | int | Sequence[str]) -> list[str]:
    """Lets some layers of a classifier's backbone learn, and its head; the others keep weights and statistics.

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


def open_segmenter(model: keras.Model, which: str | Sequence[str]) -> list[str]:
    """Lets some layers of a network that segments learn; the others keep weights and statistics.

    A batch normalization that does not learn works as at inference while the rest is trained. Dropout and noisy
    activations have nothing to learn, and stay random while training in all of the network.

    Args:
        model: of `MODELS`, one that segments; its layers' `trainable` is changed, also that of layers within layers.
        which: as `training.open_layers` says: 'all', 'contracting', 'expanding', or names. A name is that of a block,
            else that of a layer, else how layers' names begin; one with *, ? or [ is a pattern that blocks and layers
            may match.
    Returns:
        names of the layers with weights that are open, shallow ones first, as `transfer.weighted_layers` has them.
    Raises:
        RecipeError: no block and no layer has such a name, or the network has no blocks.
    """
    layers = weighted_layers(model)
    if which == "all":
        return list(layers)
    blocks = network_blocks(model)
    if isinstance(which, str):
        chosen = {name for block in network_parts(model)[which] for name in blocks[block]}
    else:
        chosen = {name for entry in which for name in _named(entry, blocks, model.name)}
    for name, weighted in layers.items():
        weighted.layer.trainable = name in chosen
    return [name for block in blocks.values() for name in block if name in chosen]


def opened_blocks(model: keras.Model, opened: Collection[str]) -> list[str]:
    """What is open of a network that segments, in few words.

    Args:
        model: of `MODELS`, one that segments.
        opened: what `open_segmenter` returned.
    Returns:
        for each block, shallow ones first, its name where all of its layers are open; where some are, how many, such as
        'encoder0 (2 of 4 layers)'.
    """
    found = []
    for block, names in network_blocks(model).items():
        count = len(set(names) & set(opened))
        if count:
            found.append(block if count == len(names) else f"{block} ({count} of {len(names)} layers)")
    return found


def _named(entry: str, blocks: Mapping[str, Sequence[str]], network: str) -> list[str]:
    """The layers that an entry of `training.open_layers` names."""
    layers = [name for names in blocks.values() for name in names]
    if entry in blocks:
        return list(blocks[entry])
    if entry in layers:
        return [entry]
    if any(sign in entry for sign in "*?["):
        of_blocks = [name for block, names in blocks.items() if fnmatchcase(block, entry) for name in names]
        found = [*of_blocks, *(name for name in layers if fnmatchcase(name, entry))]
    else:
        found = [name for name in layers if name.startswith(entry)]
    if not found:
        near = difflib.get_close_matches(re.sub(r"[*?\[\]]", "", entry), [*blocks, *layers], n=2, cutoff=0.45)
        offer = "Did you mean " + " or ".join(f"'{name}'" for name in near) + "? " if near else ""
        raise RecipeError(
            f"training.open_layers: expected blocks or layers of {network}, found '{entry}', which none is called, "
            f"begins with or matches. {offer}Its blocks are {', '.join(blocks)}; its layers have names such as "
            f"{layers[0]} and {layers[-1]}."
        )
    return found


def _beginnings(names: Sequence[str]) -> list[str]:
    """First words of layers' names, each once, in order."""
    return list(dict.fromkeys(re.split("[_/]", name)[0] for name in names))
