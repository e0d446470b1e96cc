"""Noisy U-nets with weighted losses and two scales, then classifiers by transfer, oversampled and fused.

The experiments of "Ultrasound-assisted diagnosis of benign and malignant cervical lymph nodes in patients with lung
cancer based on deep learning" (Xia et al., FBB 2020), with the fusion that it names as future work, on a split by
patient made before any copy is. Backbones learn from natural images with masks first, in place of ImageNet's weights.
"""

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from ustoolkit.studies.classification_arms import FUSIONS, LESION_FEATURES, NETWORK_ARMS, PRETRAINING
from ustoolkit.studies.classification_tables import tabulate_classification
from ustoolkit.studies.comparison import Comparison, Study
from ustoolkit.studies.lymph_node_segmentation import (
    ACTIVATIONS,
    LOSSES,
    SCALES,
    SEGMENTATION_ARMS,
    segmentation_label,
    segmentation_name,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.studies.results import Results

_ALL: tuple[tuple[Any, ...], ...] = tuple(product(ACTIVATIONS, LOSSES, SCALES))
_PLAIN: tuple[Any, ...] = ("relu", "equal", 1)


def _without(settings: tuple[Any, ...], place: int) -> list[Any]:
    """The settings with one of them as in the plain network."""
    return [_PLAIN[number] if number == place else own for number, own in enumerate(settings)]


def _factor(name: str, title: str, place: int, by_size: bool = False) -> Comparison:
    """Arms that differ from others in one factor only, each against that without it."""
    lines = [(segmentation_label(*settings), segmentation_name(*settings)) for settings in _ALL]
    baselines = {
        segmentation_name(*settings): segmentation_name(*_without(settings, place))
        for settings in _ALL
        if settings[place] != _PLAIN[place]
    }
    return Comparison(name, title, tuple(lines), by_size, baselines)


def _draw(results: "Results") -> "dict[str, Figure]":
    from ustoolkit.studies.classification_figures import classification_plots
    from ustoolkit.studies.figures import curve_plot

    plain = [(label, segmentation_name(name, "equal", 1)) for name, label in ACTIVATIONS.items()]
    every = [(segmentation_label(*settings), segmentation_name(*settings)) for settings in _ALL]
    return {
        **curve_plot(results, plain),
        **curve_plot(results, every, "curves-all"),
        **classification_plots(results, NETWORK_ARMS),
    }


LYMPH_NODE = Study(
    name="lymph-node",
    description="activation × loss × scales of the U-net, then classifiers by transfer, oversampled, and fused",
    arms=(*SEGMENTATION_ARMS, LESION_FEATURES, *(each.arm for each in NETWORK_ARMS)),
    comparisons=(
        Comparison(
            "activations",
            "Activations",
            tuple((label, segmentation_name(name, "equal", 1)) for name, label in ACTIVATIONS.items()),
        ),
        _factor("activations-everywhere", "Activations, with each loss and scale", 0),
        _factor("losses", "Losses", 1, by_size=True),
        _factor("scales", "Scales of prediction", 2, by_size=True),
    ),
    pretraining=PRETRAINING,
    fusions=FUSIONS,
    tabulate=partial(tabulate_classification, networks=NETWORK_ARMS, fusions=FUSIONS),
    draw=_draw,
)
