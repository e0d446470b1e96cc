"""What an automatic recipe starts from: settings tuned by hand, and the numbers of the rules that adapt them."""

from dataclasses import dataclass
from typing import Any

NAME = "auto"
_TUNED = "as tuned by hand"


@dataclass(frozen=True)
class Choice:
    """A setting of a recipe, and why it is so.

    Attributes:
        setting: dotted name.
        value: as TOML has it.
        reason: a line for a person.
    """

    setting: str
    value: Any
    reason: str


# Every one may be changed by a rule, or by the user.
START: tuple[Choice, ...] = (
    Choice("data.image_size", [128, 128], _TUNED),
    Choice("data.channels", 1, "ultrasound is grey"),
    Choice("data.keep_aspect", False, "images of one shape are stretched alike, and no pixel is lost to padding"),
    Choice("data.cache", "auto", "in memory where images fit in 1 GB"),
    Choice("augmentation.rotation_degrees", 30.0, _TUNED),
    Choice("augmentation.zoom", 0.3, _TUNED),
    Choice("augmentation.vertical_flip", 0.2, _TUNED),
    Choice("model.name", "unet", "of its kind, the one that has been tuned"),
    Choice("model.widths", [16, 32, 64, 128, 128], _TUNED),
    Choice("model.stem", 1, "a smaller input is better than one that a stem makes smaller"),
    Choice("model.dropout", 0.2, _TUNED),
    Choice("loss.terms", {"dice": 1.0, "cross_entropy": 1.0}, "overlap as it is scored, and a gradient everywhere"),
    Choice("training.epochs", 100, _TUNED),
    Choice("training.passes", 1, "an epoch is long enough"),
    Choice("training.batch_size", 16, _TUNED),
    Choice("training.branches", 1, "one device computes a batch at once"),
    Choice("training.optimizer", "adamw", _TUNED),
    Choice("training.learning_rate", 2e-3, _TUNED),
    Choice("training.warmup", 0.05, _TUNED),
    Choice("training.weight_decay", 0.02, _TUNED),
    Choice("training.averaging", "ema", "the average of the last steps' weights is better than the last ones"),
    Choice("training.averaging_decay", 0.998, _TUNED),
    Choice("training.schedule", "cosine", "the rate is down to 0 when the time is over"),
    Choice("training.stop_patience", 100, "the schedule is gone through to its end"),
    Choice("training.minutes", 30.0, "what is left of the time for training"),
    Choice("training.images", 0, "all of them"),
    Choice("training.strategy", "auto", "every GPU of this machine, else the CPU"),
    Choice("training.precision", "float32", "no faster arithmetic on this machine"),
    Choice("inference.flips", "horizontal", "the mean of an image's mask and its mirror image's is better than one"),
    Choice("inference.largest_component", True, "a lesion is one region"),
)

# The rules' numbers, each with its reason in docs/automatic.md.
# Epochs that a network wants; in images that pass through it, at least and at most.
SMALLER_WANTS, USUAL_WANTS, LARGER_WANTS = (20, 5_000, 30_000), (30, 10_000, 60_000), (120, 40_000, 200_000)
EPOCHS_USEFUL, PASSES_USEFUL = 200, 100_000  # whichever is more
FEWEST_EPOCHS = 4  # else images are drawn
STEPS_AN_EPOCH, SECONDS_AN_EPOCH = 30, 5.0  # of an epoch of a small set, by passes
FEWEST_EPOCHS_OF_PASSES = 10
SECONDS_BETWEEN_EPOCHS = 0.5  # for checkpoints and the change to averaged weights
SECONDS_BETWEEN_PASSES = 0.1  # until batches flow again
VALIDATION_SHARE = 1 / 3  # of a training step's time that an image takes without gradients
EPOCHS_BEYOND = 1.1  # planned, to what the time is for: the clock ends the schedule, not a step too few
LEAST_TRAINING_SHARE = 0.25  # of the budget
EVALUATION_SECONDS, EVALUATION_SECONDS_AN_IMAGE = 15.0, 0.05  # start of the command; surface distances, files
MOST_EVALUATION_SHARE = 0.25  # of the budget
LONG_EPOCHS = 100  # passes through the images, from which on they are changed more
LONG_AUGMENTATION = {"augmentation.contrast": 0.3, "augmentation.gamma": 0.5}
FEW_IMAGES = 200
FEW_IMAGES_DROPOUT = 0.4
FEW_IMAGES_AUGMENTATION = {
    "augmentation.rotation_degrees": 45.0,
    "augmentation.zoom": 0.4,
    "augmentation.shift": 0.15,
    "augmentation.contrast": 0.3,
    "augmentation.gamma": 0.5,
}
MOST_BRANCHES, IMAGES_A_BRANCH = 4, 4
MANY_IMAGES_A_GPU, IMAGES_A_GPU_IF_MANY = 2000, 32
FEWEST_IMAGES_A_GPU, STEPS_A_PASS = 4, 8
MOST_RATE_FACTOR = 2.0
MEMORY_SHARE = 0.5  # of what is free
MEMORY_FACTOR = 2.0  # to the size of what layers put out, for gradients and intermediate results
FEWEST_IMAGES_IN_MEMORY = 4
ASPECTS_ALIKE = 2.0  # most elongated images, to the least
SEVERAL_REGIONS = 0.1  # share of the masks
CACHE_BYTES, CACHE_SHARE = 1_000_000_000, 0.25  # that data.cache = "auto" takes; of the memory that is free


def tuned(setting: str) -> Any:
    """The value that a setting starts from."""
    return next(choice.value for choice in START if choice.setting == setting)
