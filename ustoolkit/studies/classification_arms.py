"""The classifiers that the study of classification trains, and how they are fused. Plain values."""

from dataclasses import dataclass

from ustoolkit.studies.comparison import Arm, FusionArm

LESION_FEATURES = Arm("lesion-features", "lesion_features", quick=True)
TRANSFERS = {"bottleneck": "bottleneck features", "fine-tuning": "fine-tuning"}
SIZES = (2000, 3000)  # printed: of 3,000 and 5,000 images, those to train on

_NETWORKS = {"vgg16": "VGG16", "resnet50": "ResNet50", "densenet161": "DenseNet161"}
# Nothing is downloaded: the pre-training takes the place of ImageNet's weights.
_START = ('model.weights="off"', 'model.pixel_normalization="unit"')
_PREVIEW_EPOCHS, _PREVIEW_PRETRAINING_EPOCHS = 2, 10
_SMOTE = {"bottleneck": "features", "fine-tuning": "pixels"}


@dataclass(frozen=True)
class NetworkArm:
    """One network transferred in one way, with one way of balancing.

    Attributes:
        network: as models are named; also its pre-training's name.
        size: training images once copies are added.
        smote: whether Borderline-SMOTE2 is used.
        transfer: one of `TRANSFERS`.
        more: further overrides of the recipe.
    """

    network: str
    size: int
    smote: bool
    transfer: str
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its arm."""
        return f"{self.network}-{self.transfer}-{self.size}{'-smote' if self.smote else ''}"

    @property
    def label(self) -> str:
        """For a reader."""
        smote = ", SMOTE" if self.smote else ""
        return f"{self.network_label}, {TRANSFERS[self.transfer]}, {self.size:,} images{smote}"

    @property
    def network_label(self) -> str:
        """The network's name for a reader."""
        return _NETWORKS.get(self.network, self.network)

    @property
    def arm(self) -> Arm:
        """What is trained."""
        balance = (
            f"classification.balance.expand_to={self.size}",
            f'classification.balance.smote="{_SMOTE[self.transfer] if self.smote else "off"}"',
        )
        ending = "_bottleneck" if self.transfer == "bottleneck" else ""
        # Bottleneck features are trained on without epochs. 24 runs a seed are many, so that previews look at smaller
        # regions than the recipes' own; pre-training, by itself, needs multiples of 32. Larger batches are quicker.
        shorter = () if self.transfer == "bottleneck" else (f"training.epochs={_PREVIEW_EPOCHS}",)
        return Arm(
            self.name,
            f"lymph_node_{self.network}{ending}",
            (*_START, *balance, *self.more),
            pretraining=self.network,
            preview_overrides=("data.image_size=[48,48]", "inference.batch_size=16", *shorter),
        )


def pretraining_arm(network: str) -> Arm:
    """The pre-training of a network's backbone."""
    return Arm(network, "pretrain_backbone", preview_overrides=(f"training.epochs={_PREVIEW_PRETRAINING_EPOCHS}",))


NETWORK_ARMS = tuple(
    NetworkArm(network, size, smote, transfer)
    for network in _NETWORKS
    for transfer in TRANSFERS
    for size in SIZES
    for smote in (False, True)
)
PRETRAINING = tuple(pretraining_arm(network) for network in _NETWORKS)

# Chosen before anything was scored: the larger size, without SMOTE.
_FUSED = {
    transfer: tuple(NetworkArm(network, max(SIZES), False, transfer).name for network in _NETWORKS)
    for transfer in TRANSFERS
}
_EVERYTHING = (*(name for names in _FUSED.values() for name in names), LESION_FEATURES.name)
FUSIONS = (
    *(FusionArm(f"fusion-{transfer}", names, "equal") for transfer, names in _FUSED.items()),
    FusionArm("fusion-all-equal", _EVERYTHING, "equal"),
    FusionArm("fusion-all-simplex", _EVERYTHING, "simplex"),
)
FUSION_LABELS = {
    "fusion-bottleneck": "three networks, bottleneck features, fused equally",
    "fusion-fine-tuning": "three networks, fine-tuning, fused equally",
    "fusion-all-equal": "six networks and lesion features, fused equally",
    "fusion-all-simplex": "six networks and lesion features, fused by validated weights",
}
