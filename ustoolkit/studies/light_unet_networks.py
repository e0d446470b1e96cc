"""The networks that the lightweight study trains, each as its recipe says. Plain values."""

from ustoolkit.studies.comparison import Arm

GROUP_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)
_ONLY_AT_FULL_SIZE = (4, 2)  # with a quarter of the channels, groups of 4, 2 and 1 all have one

OTHER_NETWORKS = {
    "fcn-32s": ("FCN-32s", "fcn_32s"),
    "fcn-16s": ("FCN-16s", "fcn_16s"),
    "fcn-8s": ("FCN-8s", "fcn_8s"),
    "deeplab-v3-plus": ("DeepLab v3+, ResNet", "deeplab_v3_plus_resnet101"),
    "deeplab-v3-plus-mobilenet": ("DeepLab v3+, MobileNet", "deeplab_v3_plus_mobilenet"),
}


def lighter_name(group_size: int) -> str:
    """Name of the arm of Lighter U-net with groups of so many channels."""
    return f"lighter-{group_size}"


NETWORK_ARMS = (
    Arm("unet", "unet"),
    Arm("light", "light_unet"),
    *(
        Arm(
            lighter_name(group_size),
            "lighter_unet_128",
            (f"model.group_size={group_size}",),
            full_size=group_size in _ONLY_AT_FULL_SIZE,
        )
        for group_size in GROUP_SIZES
    ),
    *(Arm(name, recipe) for name, (_, recipe) in OTHER_NETWORKS.items()),
)
