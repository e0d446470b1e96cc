"""The zoo: every network under the settings it was published with, and what it costs."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ustoolkit.models.cost import Measured, multiply_adds
from ustoolkit.models.network_builders import MODELS, build_model, count_trainable
from ustoolkit.progress import progress
from ustoolkit.recipe import Recipe, load_recipe, shipped_recipes


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo.

    Attributes:
        name: of the network under these settings.
        network: its name in `MODELS`.
        trainable_weights: how many, for two classes or labels and the recipe's channels.
        multiply_adds: of one image of the recipe's size; see `models.cost.multiply_adds`.
        image_size: height and width of its input, pixels.
        channels: of its input.
        train: what stands after `ustoolkit train` to train it: a shipped recipe, and settings that are changed.
        paper: where it comes from.
    """

    name: str
    network: str
    trainable_weights: int
    multiply_adds: int
    image_size: tuple[int, int]
    channels: int
    train: str
    paper: str

    @property
    def recipe(self) -> Recipe:
        """The recipe that `train` names."""
        return _recipe(self.train)


_LIGHTWEIGHT = "Li et al., ISBI 2021"
_PAPERS = {
    "unet": _LIGHTWEIGHT,
    "fast": "the U-net of Li et al., narrower, for a machine without GPU",
    "fastest": "the same, for five minutes",
    "demo": "the U-net of Li et al., narrower, for a first look",
    "light_unet": _LIGHTWEIGHT,
    "lighter_unet_128": _LIGHTWEIGHT,
    "lymph_node_unet": "Xia et al., FBB 2020",
    "ronneberger_unet": "Ronneberger et al., MICCAI 2015, as in Amiri et al., DART 2019",
    **dict.fromkeys(("fcn_32s", "fcn_16s", "fcn_8s"), f"Long et al., CVPR 2015, as in {_LIGHTWEIGHT}"),
    **dict.fromkeys(
        ("deeplab_v3_plus_resnet101", "deeplab_v3_plus_mobilenet"), f"Chen et al., ECCV 2018, as in {_LIGHTWEIGHT}"
    ),
    "deeplab_adenomyoma": "Chen et al., TPAMI 2018, as in Li et al., 2021",
    "deeplab_v3_resnet101": "Chen et al., arXiv 1706.05587, 2017",
    "pretrain_natural": "the U-net of Li et al., to begin from, as Amiri et al., DART 2019, do",
    "pretrain_backbone": "Long et al., CVPR 2015, on the backbone of He et al., CVPR 2016",
}
_PAPERS_OF_CLASSIFIERS = {
    "vgg16": "Simonyan and Zisserman, ICLR 2015",
    "resnet50": "He et al., CVPR 2016",
    "densenet161": "Huang et al., CVPR 2017",
}
_LYMPH_NODES = "lymph_node_"  # recipes of the paper that takes up several of these networks
# Published at eight group sizes, of which the first is a recipe of its own.
_GROUPED = "lighter_unet_128"
_OTHER_GROUP_SIZES = (64, 32, 16, 8, 4, 2, 1)
_SET = " --set "
_TEXT = {"name", "ustoolkit train", "paper"}  # columns aligned to the left


def zoo(networks: Collection[str] = MODELS) -> list[ZooEntry]:
    """Builds each network for two classes, or two labels, and counts its weights and multiply-adds.

    Args:
        networks: names in `MODELS` of those to list.
    Returns:
        the shipped recipes that have a network, and Lighter U-net at each group size of its paper; a network's own
        together in the order of `MODELS`, the one with most weights first.
    """
    listed = [preset for preset in presets() if _recipe(preset[1]).model.name in networks]
    costs: dict[object, tuple[int, int]] = {}
    entries = [_entry(*preset, costs) for preset in progress(listed, "counting", unit="network")]
    order = list(MODELS)
    return sorted(entries, key=lambda entry: (order.index(entry.network), -entry.trainable_weights, entry.name))


def format_zoo(entries: list[ZooEntry], measured: list[Measured]) -> str:
    """The zoo as an aligned table.

    Args:
        entries: its lines.
        measured: of each entry, or none.
    """
    columns: list[tuple[str, list[str]]] = [
        ("name", [entry.name for entry in entries]),
        ("trainable weights", [f"{entry.trainable_weights:,}" for entry in entries]),
        ("multiply-adds, millions", [f"{entry.multiply_adds / 1e6:,.0f}" for entry in entries]),
        ("input, pixels", [" × ".join(str(side) for side in (*entry.image_size, entry.channels)) for entry in entries]),
    ]
    if measured:
        columns += [
            ("training, ms/image", [f"{each.training_milliseconds:,.1f}" for each in measured]),
            ("inference, ms/image", [f"{each.inference_milliseconds:,.1f}" for each in measured]),
            ("activations, MiB/image", [f"{each.activation_mebibytes:,.1f}" for each in measured]),
        ]
    columns += [
        ("ustoolkit train", [entry.train for entry in entries]),
        ("paper", [entry.paper for entry in entries]),
    ]
    return "\n".join(_aligned(columns))


def _aligned(columns: list[tuple[str, list[str]]]) -> Iterator[str]:
    widths = [max(map(len, (title, *cells))) for title, cells in columns]
    for row in zip(*[(title, *cells) for title, cells in columns], strict=True):
        padded = [
            cell.ljust(width) if title in _TEXT else cell.rjust(width)
            for (title, _), cell, width in zip(columns, row, widths, strict=True)
        ]
        yield "  ".join(padded).rstrip()


def presets() -> Iterator[tuple[str, str, str]]:
    """Name, words after `ustoolkit train`, and paper (all str) of each line of the zoo."""
    for name in shipped_recipes():
        recipe = load_recipe(name)
        network = recipe.model.name
        paper = _PAPERS.get(name) or _PAPERS_OF_CLASSIFIERS.get(network) or recipe.description
        if recipe.classifies and name.startswith(_LYMPH_NODES):
            paper += f", as in {_PAPERS['lymph_node_unet']}"
        yield name, name, paper
        if name == _GROUPED:
            stem = name.removesuffix("128")
            yield from ((f"{stem}{size}", f"{name}{_SET}model.group_size={size}", paper) for size in _OTHER_GROUP_SIZES)


def _recipe(train: str) -> Recipe:
    name, *overrides = train.split(_SET)
    return load_recipe(name, overrides)


def _entry(name: str, train: str, paper: str, costs: dict[object, tuple[int, int]]) -> ZooEntry:
    """One line; `costs` keeps the weights and multiply-adds of networks that several recipes have."""
    recipe = _recipe(train)
    same = (recipe.model, recipe.data, recipe.classification.region.mask_channel)
    if same not in costs:
        model = build_model(recipe, num_classes=2)
        costs[same] = count_trainable(model), multiply_adds(model)
    return ZooEntry(
        name,
        recipe.model.name,
        *costs[same],
        recipe.data.image_size,
        recipe.data.channels,
        train,
        paper,
    )
