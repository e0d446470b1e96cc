"""The zoo: every network under the settings it was published with."""

from dataclasses import dataclass

from ustoolkit.models import build_model, count_trainable
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
    count = count_trainable(build_model(recipe, num_classes=2))
    return ZooEntry(name, count, recipe.data.image_size, recipe.data.channels, paper)
