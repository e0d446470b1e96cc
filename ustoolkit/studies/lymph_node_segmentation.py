"""The U-nets that the lymph-node study trains: activations, losses and scales, each with each. Plain values."""

from itertools import product

from ustoolkit.studies.comparison import Arm

ACTIVATIONS = {"relu": "ReLU", "selu": "SELU", "nhrelu": "NHReLU", "nhselu": "NHSeLU"}
LOSSES = {"equal": "equal weights", "balanced": "classes weighted"}
SCALES = {1: "one scale", 2: "two scales"}


def segmentation_name(activation: str, weights: str, scales: int) -> str:
    """Name of the arm with these settings."""
    return f"{activation}-{weights}-{scales}"


def segmentation_label(activation: str, weights: str, scales: int) -> str:
    """Its settings for a reader."""
    return f"{ACTIVATIONS[activation]}, {LOSSES[weights]}, {SCALES[scales]}"


def _arm(activation: str, weights: str, scales: int) -> Arm:
    overrides = (
        f"model.activation={activation}",
        f"model.scales={scales}",
        "loss.terms={dice=1.0, cross_entropy=1.0}",
        f"loss.class_weights={weights}",
    )
    return Arm(segmentation_name(activation, weights, scales), "lymph_node_unet", overrides)


SEGMENTATION_ARMS = tuple(_arm(*settings) for settings in product(ACTIVATIONS, LOSSES, SCALES))
