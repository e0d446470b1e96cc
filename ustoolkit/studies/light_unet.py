"""Light and Lighter U-nets beside other networks, group sizes, and the tuning of the U-net step by step.

The experiments of "Lightweight U-Net for Lesion Segmentation in Ultrasound Images" (Li et al., ISBI 2021): its table 1
(networks), its table 2 (group sizes), and section 4.2, where settings are changed one after the other. Each network is
trained as its recipe says; the paper tunes the weight decay of each, for which there is `ustoolkit tune`.
"""

from typing import TYPE_CHECKING

from ustoolkit.studies.comparison import Arm, Comparison, Ladder, Study
from ustoolkit.studies.ladder_table import LADDER
from ustoolkit.studies.light_unet_networks import GROUP_SIZES, NETWORK_ARMS, OTHER_NETWORKS, lighter_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.studies.results import Results

_UNETS = (("U-net", "unet"), ("Light U-net", "light"))
_LIGHTER = tuple((f"Lighter U-net @{size}", lighter_name(size)) for size in GROUP_SIZES)
_OTHERS = tuple((label, name) for name, (label, _) in OTHER_NETWORKS.items())


def _step(name: str, *overrides: str, preview: tuple[str, ...] = ()) -> Arm:
    return Arm(f"{LADDER}-{name}", "unet", overrides, preview_overrides=preview)


# Previews train shorter than their recipes, so that rates are higher and patience is less.
_LADDER = Ladder(
    steps=(
        _step(
            "default",
            "augmentation.enabled=false",
            "loss.terms={cross_entropy=1.0}",
            "training.optimizer=sgd",
            "training.learning_rate=1e-3",
            "training.batch_size=2",
            "training.schedule=constant",
            "training.weight_decay=0.0",
            preview=("training.learning_rate=1e-2", "training.epochs=16"),
        ),
        _step("augmentation", "augmentation.enabled=true"),
        _step("dice", "loss.terms={dice=1.0}"),
        _step(
            "adam",
            "training.optimizer=adam",
            "training.learning_rate=1e-4",
            preview=("training.learning_rate=1e-3",),
        ),
        _step("plateau", "training.schedule=plateau", preview=("training.plateau_patience=2",)),
        _step("batch", "training.batch_size=8"),
        _step("decay", "training.weight_decay=1e-4"),
    ),
    labels=(
        "default",
        "+ augmentation",
        "+ Dice loss",
        "+ Adam",
        "+ rate halved on plateaus",
        "+ batches of 8",
        "+ weight decay",
    ),
)


def _draw(results: "Results") -> "dict[str, Figure]":
    from ustoolkit.studies.figures import cost_plot, ladder_plot

    u_nets = (*_UNETS, *((f"@{size}", lighter_name(size)) for size in GROUP_SIZES))
    return {
        **cost_plot(results, {"U-net, Light, Lighter @": u_nets, "FCN": _OTHERS[:3], "DeepLab": _OTHERS[3:]}),
        **ladder_plot(results),
    }


LIGHT_UNET = Study(
    name="light-unet",
    description="Light and Lighter U-nets: networks, group sizes, and tuning step by step",
    arms=NETWORK_ARMS,
    comparisons=(
        Comparison("networks", "Networks", (*_UNETS, _LIGHTER[0], *_OTHERS)),
        Comparison("group-sizes", "Channels a group", (*_UNETS, *_LIGHTER)),
    ),
    ladder=_LADDER,
    draw=_draw,
)
