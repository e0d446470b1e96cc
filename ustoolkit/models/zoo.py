"""The zoo: every network under the settings it was published with."""

from dataclasses import dataclass

import numpy as np

from ustoolkit.models import MODELS, logit_channels
from ustoolkit.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo.

    Attributes:
        name: of the shipped recipe that trains it.
        trainable_weights: how many, for two classes and the recipe's channels.
        image_size: height and width of its input, pixels.
        channels: of its input.
        paper: where it comes from.
    """

    name: str
    trainable_weights: int
    image_size: tuple[int, int]
    channels: int
    paper: str


_PAPERS = {
    "unet": "Li et al., Lightweight U-Net for Lesion Segmentation in Ultrasound Images, ISBI 2021",
    "fast": "the same network, narrower, for a machine without GPU",
    "demo": "the same network, narrower, for a first look",
}


def zoo() -> list[ZooEntry]:
    """Builds each network and counts its weights."""
    return [_entry(name, load_recipe(name), paper) for name, paper in _PAPERS.items()]


def _entry(name: str, recipe: Recipe, paper: str) -> ZooEntry:
    model = MODELS[recipe.model.name](recipe.model, recipe.data, logit_channels(2))
    count = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return ZooEntry(name, count, recipe.data.image_size, recipe.data.channels, paper)
