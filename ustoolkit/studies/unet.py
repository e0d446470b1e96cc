"""The U-net family: activations with noise, two scales, weights of classes, and lighter convolutions.

The first three tables change one thing at a time in the U-net of "Ultrasound-assisted diagnosis of benign and
malignant cervical lymph nodes in patients with lung cancer based on deep learning" (Xia et al., FBB 2020); their common
baseline has ReLU, one scale, and Dice plus cross-entropy with equal weights. The last compares networks of "Lightweight
U-Net for Lesion Segmentation in Ultrasound Images" (Li et al., ISBI 2021), each as its recipe says.
"""

from ustoolkit.studies.comparison import Arm, Comparison, Study

_PLAIN = {
    "model.activation": "relu",
    "model.scales": "1",
    "loss.terms": "{dice=1.0, cross_entropy=1.0}",
    "loss.class_weights": "equal",
}


def _noisy(name: str, **changes: str) -> Arm:
    """An arm that differs from the baseline in some settings, '__' standing for the dot."""
    settings = {**_PLAIN, **{key.replace("__", "."): value for key, value in changes.items()}}
    return Arm(name, "lymph_node_unet", tuple(f"{key}={value}" for key, value in settings.items()))


def _lighter(group_size: int) -> Arm:
    return Arm(f"lighter-{group_size}", "lighter_unet_128", (f"model.group_size={group_size}",))


UNET = Study(
    name="unet",
    description="U-nets: noisy activations, two scales, weighted losses, lighter convolutions",
    arms=(
        _noisy("plain"),
        _noisy("selu", model__activation="selu"),
        _noisy("nhrelu", model__activation="nhrelu"),
        _noisy("nhselu", model__activation="nhselu"),
        _noisy("two-scales", model__scales="2"),
        _noisy("weighted", loss__class_weights="balanced"),
        Arm("unet", "unet"),
        Arm("light", "light_unet"),
        *(_lighter(group_size) for group_size in (128, 32, 8, 1)),
    ),
    comparisons=(
        Comparison(
            "activations",
            "Activations",
            (
                ("ReLU", "plain"),
                ("SELU", "selu"),
                ("NHReLU", "nhrelu"),
                ("NHSeLU", "nhselu"),
            ),
        ),
        Comparison("scales", "Scales of prediction", (("one", "plain"), ("two", "two-scales")), by_size=True),
        Comparison("loss", "Losses", (("equal weights", "plain"), ("classes weighted", "weighted")), by_size=True),
        Comparison(
            "networks",
            "Networks",
            (
                ("U-net", "unet"),
                ("Light U-net", "light"),
                *((f"Lighter U-net @{group_size}", f"lighter-{group_size}") for group_size in (128, 32, 8, 1)),
            ),
        ),
    ),
)
