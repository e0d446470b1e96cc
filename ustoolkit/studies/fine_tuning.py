"""Which part of a U-net to fine-tune: contracting or expanding, and block by block from either end.

The experiments of "Fine tuning U-Net for ultrasound image segmentation: which layers?" (Amiri et al., DART 2019):
pre-trained on natural images in grey, tuned on 120 images at a time in five folds, and the same on other images,
where the paper takes chest X-rays. Folds are by patient here, and a validation part inside each picks the epoch.
"""

from typing import TYPE_CHECKING

from ustoolkit.studies.comparison import SECOND, Arm, Comparison, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.studies.results import Results

BLOCKS = (*(f"encoder{level}" for level in range(5)), *(f"decoder{level}" for level in range(3, -1, -1)))
CONTRACTING = 5  # blocks, with ten convolutions; the last of all holds the 1×1 convolution, too
_PRETRAINING = "natural"
_METRICS = ("dice", "pixel_error", "adjusted_rand")

# Printed: 163 images in five folds, so 130 to learn from, each epoch 600 once they are changed at random, 20 epochs.
# Here 120 images are seen five times an epoch. The rate is not printed, and chosen.
_SETTINGS = ("training.images=120", "training.passes=5", "training.epochs=20", "training.stop_patience=20")
_SMALL = (
    "data.image_size=[64,64]",
    "model.widths=[8,16,32,64,128]",
    "model.dropout=0.1",
    "training.learning_rate=1e-3",
    "training.epochs=6",
    "training.stop_patience=6",
)


def _arm(name: str, open_layers: str, second: bool, pretrained: bool = True) -> Arm:
    return Arm(
        f"{SECOND}-{name}" if second else name,
        "ronneberger_unet",
        (f"training.open_layers={open_layers}", *_SETTINGS),
        pretraining=_PRETRAINING if pretrained else "",
        preview_overrides=_SMALL,
        images=SECOND if second else "",
    )


def _listed(blocks: tuple[str, ...]) -> str:
    return "[" + ",".join(f'"{name}"' for name in blocks) + "]"


def _arms(second: bool) -> tuple[Arm, ...]:
    count = range(1, len(BLOCKS))
    return (
        *(_arm(f"shallow-{number}", _listed(BLOCKS[:number]), second) for number in count),
        *(_arm(f"deep-{number}", _listed(BLOCKS[-number:]), second) for number in count),
        _arm("all", "all", second),
        _arm("scratch", "all", second, pretrained=False),
    )


def _name(name: str, second: bool) -> str:
    return f"{SECOND}-{name}" if second else name


def _comparisons(second: bool) -> tuple[Comparison, ...]:
    of_what = ", other images" if second else ""
    contracting, expanding = f"shallow-{CONTRACTING}", f"deep-{len(BLOCKS) - CONTRACTING}"
    parts = (
        ("whole network", "all"),
        ("contracting part", contracting),
        ("expanding part", expanding),
        ("whole network, not pre-trained", "scratch"),
    )
    count = range(1, len(BLOCKS))
    steps = (
        ("all blocks", "all"),
        *((f"{number} from the shallow end", f"shallow-{number}") for number in count),
        *((f"{number} from the deep end", f"deep-{number}") for number in count),
    )
    return tuple(
        Comparison(
            _name(name, second),
            f"{title}{of_what}",
            tuple((label, _name(arm, second)) for label, arm in lines),
            metrics=_METRICS,
        )
        for name, title, lines in (("parts", "Part that is tuned", parts), ("blocks", "Blocks that are tuned", steps))
    )


def _draw(results: "Results") -> "dict[str, Figure]":
    from ustoolkit.studies.figures import step_plot
    from ustoolkit.studies.layer_movement import movement_plot

    count = len(BLOCKS)
    panels = {}
    for second, title in ((False, "the study's images"), (True, "other images")):
        shallow = [_name(f"shallow-{number}", second) for number in range(1, count)] + [_name("all", second)]
        deep = [_name(f"deep-{number}", second) for number in range(1, count)] + [_name("all", second)]
        panels[title] = {"from shallow to deep": shallow, "from deep to shallow": deep}
    marks = {
        "from shallow to deep": (CONTRACTING, "contracting part"),
        "from deep to shallow": (count - CONTRACTING, "expanding part"),
    }
    return {**step_plot(results, panels, marks), **movement_plot(results, "all")}


FINE_TUNING = Study(
    name="fine-tuning",
    description="which part of a pre-trained U-net to tune, and on what images",
    arms=(*_arms(second=False), *_arms(second=True)),
    comparisons=(*_comparisons(second=False), *_comparisons(second=True)),
    pretraining=(
        Arm(
            _PRETRAINING,
            "pretrain_natural",
            ("data.channels=1", "augmentation.enabled=false"),
            preview_overrides=("data.image_size=[64,64]",),
        ),
    ),
    folds=5,
    seeds=1,
    draw=_draw,
)
