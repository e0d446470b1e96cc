"""FCN, DeepLab and the U-net: from scratch and pre-trained, with images prepared or not, each without and with a CRF.

The networks of "Lightweight U-Net for Lesion Segmentation in Ultrasound Images" (Li et al., ISBI 2021), with DeepLab v2
of "Ultrasonic Image Processing Based on DeepLab Network" (Li et al., 2021), and v3 between. All are trained as the
former says, so that only the network differs; v2 takes its network alone from the latter's recipe. Its preparation of
the images, a Gaussian low-pass and morphology, is tried with two of them, less the crop, which would change what is
scored.
"""

from typing import TYPE_CHECKING

from ustoolkit.recipe.data_set import CleanStep
from ustoolkit.studies.comparison import CRF, Arm, Comparison, CrfTuning, Preparation, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.studies.results import Results

_PRETRAINED = "-pretrained"
_V3_PLUS = "deeplab_v3_plus_resnet101"
_UNET = "unet"
_LABELS = {
    _UNET: "U-net",
    "fcn-32s": "FCN-32s",
    "fcn-16s": "FCN-16s",
    "fcn-8s": "FCN-8s",
    "deeplab-v2": "DeepLab v2",
    "deeplab-v3": "DeepLab v3",
    "deeplab-v3-plus": "DeepLab v3+",
}


_PREPARED = (_UNET, "deeplab-v2")
_PREPARATIONS: dict[str, tuple[str, tuple[CleanStep, ...]]] = {
    "gaussian": ("Gaussian", ("smooth",)),
    "morphology": ("morphology", ("bright", "open")),
    "gaussian-morphology": ("Gaussian, morphology", ("smooth", "bright", "open")),
}


def _arm(name: str, pretraining: str = "", images: str = "") -> Arm:
    """An arm of one of the networks of `_LABELS`, from scratch or from a pre-training, on prepared images or others."""
    whole = f"{name}-{images}" if images else name + _PRETRAINED if pretraining else name
    if name == "deeplab-v2":
        # That recipe begins with ImageNet's weights; here all networks begin alike.
        overrides = ('model.weights="off"', 'model.pixel_normalization="unit"')
        return Arm(whole, _V3_PLUS, overrides, network_of="deeplab_adenomyoma", pretraining=pretraining, images=images)
    recipe = name.replace("-", "_") + ("_resnet101" if name.startswith("deeplab") else "")
    return Arm(whole, recipe, pretraining=pretraining, images=images)


def _starts(name: str) -> tuple[tuple[str, str], ...]:
    """Lines of a network from scratch and pre-trained."""
    return (_LABELS[name], name), (f"{_LABELS[name]}, pre-trained", name + _PRETRAINED)


def _with_crf(label: str, name: str) -> tuple[tuple[str, str], ...]:
    """Lines of an arm without and with the CRF."""
    return (label, name), (f"{label}, CRF", name + CRF)


_FROM_SCRATCH = tuple((label, name) for name, label in _LABELS.items())
_STARTS = tuple(line for name in _LABELS for line in _starts(name))
_PRETRAINED_ONLY = tuple(line for line in _STARTS if line not in _FROM_SCRATCH)


def _crf(name: str, title: str, lines: tuple[tuple[str, str], ...]) -> Comparison:
    return Comparison(
        name,
        title,
        tuple(line for label, arm in lines for line in _with_crf(label, arm)),
        by_size=True,
        baselines={arm + CRF: arm for _, arm in lines},
        pixels=True,
    )


def _prepared(crf: bool) -> Comparison:
    """Each network with its images as they are and prepared; both without the CRF, or both with it."""
    behind, label = (CRF, ", CRF") if crf else ("", "")
    lines = []
    for name in _PREPARED:
        lines.append((_LABELS[name] + label, name + behind))
        lines += [
            (f"{_LABELS[name]}, {title}{label}", f"{name}-{images}{behind}")
            for images, (title, _) in _PREPARATIONS.items()
        ]
    return Comparison(
        "preparation-crf" if crf else "preparation",
        f"Preparation of the images{label}",
        tuple(lines),
        baselines={f"{name}-{images}{behind}": name + behind for name in _PREPARED for images in _PREPARATIONS},
        pixels=True,
    )


def _draw(results: "Results") -> "dict[str, Figure]":
    from ustoolkit.studies.figures import difference_plot

    return {
        **difference_plot(results, "crf", "difference in Dice by the CRF"),
        **difference_plot(results, "preparation", "difference in Dice by the preparation"),
        **difference_plot(results, "pretraining", "difference in Dice by pre-training"),
    }


DEEPLAB = Study(
    name="deeplab",
    description="FCN, DeepLab and the U-net: preparation of the images, pre-training, CRF",
    arms=(
        *map(_arm, _LABELS),
        *(_arm(name, images=images) for images in _PREPARATIONS for name in _PREPARED),
        *(_arm(name, pretraining=name) for name in _LABELS),
    ),
    comparisons=(
        Comparison("networks", "Networks", _FROM_SCRATCH, pixels=True),
        _prepared(crf=False),
        _prepared(crf=True),
        Comparison(
            "pretraining",
            "Pre-training on natural images",
            _STARTS,
            baselines={name + _PRETRAINED: name for name in _LABELS},
            pixels=True,
        ),
        _crf("crf", "CRF, from scratch", _FROM_SCRATCH),
        _crf("crf-pretrained", "CRF, pre-trained", _PRETRAINED_ONLY),
        Comparison("all", "All", tuple(line for label, arm in _STARTS for line in _with_crf(label, arm)), pixels=True),
    ),
    pretraining=tuple(Arm(name, "pretrain_natural") for name in _LABELS),
    crf=CrfTuning(trials=16, images=48),
    preparations=tuple(Preparation(name, steps) for name, (_, steps) in _PREPARATIONS.items()),
    draw=_draw,
)
