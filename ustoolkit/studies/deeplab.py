"""FCN, DeepLab and the U-net: each from scratch and pre-trained on natural images, each without and with a CRF.

The networks of "Lightweight U-Net for Lesion Segmentation in Ultrasound Images" (Li et al., ISBI 2021), with DeepLab v2
of "Ultrasonic Image Processing Based on DeepLab Network" (Li et al., 2021), and v3 between. All are trained as the
former says, so that only the network differs; v2 takes its network alone from the latter's recipe.
"""

from ustoolkit.studies.comparison import CRF, Arm, Comparison, CrfTuning, Study

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


def _arm(name: str, pretraining: str = "") -> Arm:
    """An arm of one of the networks of `_LABELS`, from scratch or from a pre-training."""
    whole = name + _PRETRAINED if pretraining else name
    if name == "deeplab-v2":
        # That recipe begins with ImageNet's weights; here all networks begin alike.
        overrides = ('model.weights="off"', 'model.pixel_normalization="unit"')
        return Arm(whole, _V3_PLUS, overrides, network_of="deeplab_adenomyoma", pretraining=pretraining)
    recipe = name.replace("-", "_") + ("_resnet101" if name.startswith("deeplab") else "")
    return Arm(whole, recipe, pretraining=pretraining)


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
    )


DEEPLAB = Study(
    name="deeplab",
    description="FCN, DeepLab and the U-net: from scratch and pre-trained, without and with a CRF",
    arms=(*map(_arm, _LABELS), *(_arm(name, pretraining=name) for name in _LABELS)),
    comparisons=(
        Comparison("networks", "Networks", _FROM_SCRATCH),
        Comparison(
            "pretraining",
            "Pre-training on natural images",
            _STARTS,
            baselines={name + _PRETRAINED: name for name in _LABELS},
        ),
        _crf("crf", "CRF, from scratch", _FROM_SCRATCH),
        _crf("crf-pretrained", "CRF, pre-trained", _PRETRAINED_ONLY),
        Comparison("all", "All", tuple(line for label, arm in _STARTS for line in _with_crf(label, arm))),
    ),
    pretraining=tuple(Arm(name, "pretrain_natural") for name in _LABELS),
    crf=CrfTuning(trials=16, images=48),
)
