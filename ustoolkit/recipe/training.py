"""What a network is trained to lower, and how: losses, optimiser, schedule, where it runs."""

from typing import Annotated, Literal

from pydantic import Field

from ustoolkit.choices import Strategy
from ustoolkit.recipe.base import Count, Fraction, NotNegative, Positive, Settings
from ustoolkit.recipe.pixels import OFF

LossName = Literal["dice", "cross_entropy", "focal", "tversky", "boundary"]


def _dice_alone() -> dict[LossName, float]:
    return {"dice": 1.0}


class LossSettings(Settings):
    """A weighted sum of loss terms, each over the heads of the network."""

    terms: Annotated[
        dict[LossName, Positive],
        Field(min_length=1, description="weight of each term"),
    ] = Field(default_factory=_dice_alone)
    class_weights: Annotated[
        Literal["equal", "balanced"] | tuple[Positive, ...],
        Field(
            description="of pixels in cross_entropy, focal and boundary; balanced: from the training masks, so that "
            "each class counts as much; else a number for the background and each class"
        ),
    ] = "equal"
    focal_gamma: Annotated[NotNegative, Field(le=10, description="how much focal leaves pixels that are right")] = 2.0
    tversky_false_positives: Annotated[Positive, Field(description="weight of pixels wrongly called lesion")] = 0.3
    tversky_false_negatives: Annotated[Positive, Field(description="weight of lesion pixels missed")] = 0.7
    boundary_weight: Annotated[NotNegative, Field(description="weight that boundary adds on an outline")] = 5.0
    boundary_pixels: Annotated[
        Count, Field(le=50, description="of the network's input; how far from an outline boundary adds weight")
    ] = 5
    scale_weights: Annotated[
        tuple[Positive, NotNegative], Field(description="of the full- and the half-resolution head")
    ] = (1.0, 0.5)


class TrainingSettings(Settings):
    """The optimiser, its schedule, and when to stop."""

    epochs: Annotated[Count, Field(description="at most; stop_patience and minutes may end it earlier")] = 200
    passes: Annotated[
        Count, Field(description="how often an epoch goes through the images, changed anew each time; for small sets")
    ] = 1
    batch_size: Annotated[Count, Field(description="images a step, over all devices together")] = 8
    replica_batch_size: Annotated[
        int,
        Field(
            ge=0, description="images a step on each device, in place of batch_size, so that devices add to the batch"
        ),
    ] = 0
    accumulation: Annotated[
        Count, Field(description="a batch goes through the network in so many parts, whose gradients are added up")
    ] = 1
    branches: Annotated[
        Count,
        Field(
            le=256,
            description="a batch goes through the network in so many parts side by side, each on a core of its own, "
            "whose gradients are added up; on a CPU much faster than all cores on one part. Each part is normalized by "
            "itself",
        ),
    ] = 1
    optimizer: Annotated[Literal["adam", "adamw", "sgd"], Field(description="sgd has a momentum of 0.9")] = "adam"
    learning_rate: Annotated[Positive, Field(description="the highest; schedule and warmup lower it")] = 1e-4
    rate_scaling: Annotated[
        Literal["off", "linear", "root"],
        Field(description="of the rate with the images a step beyond batch_size: as they are, or as their root"),
    ] = "off"
    warmup: Annotated[Fraction, Field(lt=1, description="share of the training in which the rate rises from 0")] = 0.0
    clip_norm: Annotated[
        NotNegative, Field(description="the gradient of all weights together is at most so long; 0: as it is")
    ] = 0.0
    weight_decay: Annotated[
        NotNegative,
        Field(
            description="L2 term added to the gradient of every weight; for adamw the share of the rate by which "
            "kernels shrink in a step"
        ),
    ] = 0.0
    averaging: Annotated[
        Literal["off", "ema", "swa"],
        Field(
            description="what is validated and kept: off: the weights; ema: their exponential moving average; swa: "
            "their mean over the epochs from averaging_start on. Both kept weights, the best and the last, are averages"
        ),
    ] = "off"
    averaging_decay: Annotated[
        Positive, Field(lt=1, description="of ema: share that a step leaves of the average; less in the first steps")
    ] = 0.998
    averaging_start: Annotated[Fraction, Field(lt=1, description="of swa: share of the training before it begins")] = (
        0.75
    )
    schedule: Annotated[
        Literal["plateau", "cosine", "constant"],
        Field(description="plateau: lower the rate when validation stalls; cosine: down to 0 over the epochs"),
    ] = "plateau"
    plateau_patience: Annotated[Count, Field(description="epochs without a better validation Dice")] = 5
    plateau_factor: Annotated[Positive, Field(lt=1, description="the rate is multiplied by this")] = 0.5
    stop_patience: Annotated[Count, Field(description="epochs without a better validation Dice before the end")] = 15
    minutes: Annotated[NotNegative, Field(description="stop after the epoch that passes this time; 0: no limit")] = 0.0
    checkpoint_minutes: Annotated[
        NotNegative,
        Field(description="within a longer epoch, keep a checkpoint each time so much has passed; 0: never"),
    ] = 10.0
    strategy: Annotated[
        Strategy,
        Field(
            description="auto: the workers of TF_CONFIG or SLURM, else every visible GPU, else the CPU; multi-worker "
            "and parameter-server: on several machines"
        ),
    ] = "auto"
    synchronized_normalization: Annotated[
        bool, Field(description="batch normalization takes its statistics over all devices together")
    ] = True
    precision: Annotated[
        Literal["float32", "bfloat16", "float16", "auto"],
        Field(
            description="of the arithmetic while training; weights and losses stay float32. auto: float16 on GPUs that "
            "have it, bfloat16 on CPUs that have it, else float32"
        ),
    ] = "float32"
    xla: Annotated[bool, Field(description="compile the training step by XLA")] = False
    deterministic: Annotated[
        bool, Field(description="the same weights bit for bit each time, on GPUs too; slower there")
    ] = False
    images: Annotated[
        int, Field(ge=0, description="train on at most so many images, and validate on a quarter as many; 0: all")
    ] = 0
    initial_weights: Annotated[
        str,
        Field(min_length=1, description="folder of a run to start from, layer by layer where names and shapes agree"),
    ] = OFF
    open_layers: Annotated[
        Literal["all", "contracting", "expanding"]
        | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)],
        Field(
            description="of a network that segments: all; its contracting or its expanding part; or names of blocks, "
            "and of layers, which may be beginnings or hold *, ? and [ ], such as ['encoder0', '*_norm?']. The other "
            "layers do not learn: their weights stay, and their batch normalization works with the statistics it has "
            "and keeps them"
        ),
    ] = "all"
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of weights, order, augmentation, noise and dropout")] = 0
