"""What the fast recipes are made of: each choice of the fastest one changed alone, in the same time.

At full size the clock ends each run (`training.minutes`), so that they have to have the machine for themselves, one
after the other. Previews end by epochs: a network whose step takes longer gets fewer, as many as take the same time on
one core.
"""

from ustoolkit.studies.comparison import Arm, Comparison, Study

RECIPE = "fastest"
_BASE = ("recipe as it is", "recipe")


def _arm(name: str, *overrides: str, epochs: int = 0) -> Arm:
    """A change of the recipe; `epochs` of a preview where a step does not take as long as the recipe's."""
    return Arm(name, RECIPE, overrides, preview_overrides=(f"training.epochs={epochs}",) if epochs else ())


_NETWORK = {
    "wider": ("twice the filters", _arm("wider", "model.widths=[32,64,128,128,128]", epochs=11)),
    "narrower": ("half the filters", _arm("narrower", "model.widths=[8,16,32,64,64]", epochs=52)),
    "input-96": ("96 × 96", _arm("input-96", "data.image_size=[96,96]", epochs=53)),
    "input-160": ("160 × 160", _arm("input-160", "data.image_size=[160,160]", epochs=20)),
    "stem": (
        "192 × 192 behind a stem",
        _arm("stem", "data.image_size=[192,192]", "model.stem=2", "model.widths=[32,64,128,256]", epochs=16),
    ),
    "group-norm": ("group normalization", _arm("group-norm", "model.normalization=group")),
    "two-heads": ("two heads", _arm("two-heads", "model.scales=2")),
    "attention": ("attention gates", _arm("attention", "model.skips=attention", epochs=26)),
    "mirrored": ("decoder as wide as the encoder", _arm("mirrored", "model.decoder=mirrored", epochs=26)),
    "no-dropout": ("no dropout", _arm("no-dropout", "model.dropout=0.0")),
}
_TRAINING = {
    "dice": ("Dice loss alone", _arm("dice", "loss.terms={dice=1.0}")),
    "cross-entropy": ("cross-entropy alone", _arm("cross-entropy", "loss.terms={cross_entropy=1.0}")),
    "no-average": ("last weights, no average", _arm("no-average", "training.averaging=off")),
    "batch-8": ("batches of 8", _arm("batch-8", "training.batch_size=8")),
    "rate": ("twice the rate", _arm("rate", "training.learning_rate=4e-3")),
    "adam": ("Adam, no decay", _arm("adam", "training.optimizer=adam", "training.weight_decay=0.0")),
    "constant": ("constant rate", _arm("constant", "training.schedule=constant")),
    "no-warm-up": ("no warm-up", _arm("no-warm-up", "training.warmup=0.0")),
    "whole": ("batches in one part, slower", _arm("whole", "training.branches=1")),
    "no-flips": ("no mirrored images in inference", _arm("no-flips", "inference.flips=off")),
}
_SCANNER = (
    "augmentation.gamma=0.3",
    "augmentation.gain=0.2",
    "augmentation.speckle=0.1",
    "augmentation.blur=0.6",
    "augmentation.shadow=0.1",
    "augmentation.resolution=1.3",
)
_AUGMENTATION = {
    "off": ("no augmentation", _arm("off", "augmentation.enabled=false")),
    "weak": (
        "half the rotation and zoom",
        _arm("weak", "augmentation.rotation_degrees=15", "augmentation.zoom=0.15", "augmentation.vertical_flip=0.0"),
    ),
    "contrast": (
        "more contrast and gamma",
        _arm("contrast", "augmentation.contrast=0.3", "augmentation.gamma=0.5"),
    ),
    "scanner": ("changes that scanners make", _arm("scanner", *_SCANNER)),
    "scanner-some": (
        "… each on a quarter of the images",
        _arm("scanner-some", *_SCANNER, "augmentation.scanner_probability=0.25"),
    ),
}
_GROUPS = {"network": _NETWORK, "training": _TRAINING, "augmentation": _AUGMENTATION}
_TITLES = {"network": "Network and input", "training": "Loss and optimiser", "augmentation": "Augmentation"}


FAST = Study(
    name="fast",
    description="the fast recipes: each choice of fastest changed alone, in the same time",
    arms=(Arm("recipe", RECIPE), *(arm for group in _GROUPS.values() for _, arm in group.values())),
    comparisons=tuple(
        Comparison(name, _TITLES[name], (_BASE, *((label, key) for key, (label, _) in group.items())))
        for name, group in _GROUPS.items()
    ),
    seeds=1,
)
