"""DeepLab v2, v3 and v3+ of tf-models-official's parts, which are imported when one is built."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.dropout import CountedDropout
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.recipe.networks import DeeplabV2Settings, DeeplabV3PlusSettings, DeeplabV3Settings
from ustoolkit.recipe.settings import DataSettings

DeeplabSettings = DeeplabV2Settings | DeeplabV3Settings | DeeplabV3PlusSettings
BACKBONE = "backbone"  # name of the layer that holds it
_QUARTER = 2  # level of tf-models-official: features at a resolution of 1 / 2²


def build_deeplab(model: DeeplabSettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds a DeepLab that ends at the input's resolution.

    v2 (Chen et al., TPAMI 2018) sums the predictions of parallel atrous convolutions. v3 (Chen et al., 2017) joins such
    convolutions with a 1 × 1 one and the image's mean. v3+ (Chen et al., ECCV 2018) adds a decoder with the backbone's
    features at a quarter of the resolution. Whatever is predicted at a lower resolution is interpolated linearly.
    A `.keras` file of it can be read where tf-models-official's parts are imported; a SavedModel needs none.

    Args:
        model: which of them, its backbone and its pyramid.
        data: the input's size, multiples of the output stride, and channels.
        outputs: logits a pixel: 1 for lesion or not, else one a class.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, height, width, outputs).
    """
    inputs = keras.layers.Input((*data.image_size, data.channels), name="image")
    pixels = PixelNormalization(model.pixel_normalization, name="pixels")(inputs)
    endpoints = build_backbone(model, data)(pixels)
    if isinstance(model, DeeplabV2Settings):
        logits = _summed_pyramid(endpoints, model, outputs)
    else:
        logits = _joined_pyramid(endpoints, model, outputs)
    factor = data.image_size[0] // logits.shape[1]
    logits = keras.layers.Activation("linear", dtype="float32", name="logits_coarse")(logits)
    logits = keras.layers.UpSampling2D(factor, interpolation="bilinear", dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name=model.name)


def build_backbone(model: DeeplabSettings, data: DataSettings) -> keras.Model:
    """Builds the backbone alone, as tf-models-official does, as far as DeepLab needs it.

    Another width than 1 scales the filters of a ResNet's blocks, not the 64 of its first convolution; of a MobileNet
    it scales all, to multiples of 8.

    Args:
        model: which one, its width and its output stride.
        data: the input's size and channels.
    Returns:
        a model from (batch, height, width, channels) to a dict of features by level, a string: those of level n have
        the input's resolution divided by 2 to the n. These are the last ones and those at a quarter of the resolution.
    """
    specification = keras.layers.InputSpec(shape=[None, *data.image_size, data.channels])
    whole = _BACKBONES[model.backbone](model, specification)
    endpoints = {level: whole.output[level] for level in sorted({str(_QUARTER), _level(model)})}
    # MobileNet goes on to what classification needs; weights that nothing uses could not be trained.
    return keras.Model(whole.input, endpoints, name=BACKBONE)


def _resnet(depth: int) -> Callable[[DeeplabSettings, keras.layers.InputSpec], keras.Model]:
    def build(model: DeeplabSettings, specification: keras.layers.InputSpec) -> keras.Model:
        from official.vision.modeling.backbones import resnet_deeplab

        groups = [
            (kind, max(1, round(width * model.backbone_width)), blocks)
            for kind, width, blocks in resnet_deeplab.RESNET_SPECS[depth]
        ]
        name = depth if model.backbone_width == 1 else f"{depth} of {', '.join(str(width) for _, width, _ in groups)}"
        # The library reads the filters from this table, and has none for other widths.
        resnet_deeplab.RESNET_SPECS.setdefault(name, groups)
        return resnet_deeplab.DilatedResNet(name, model.output_stride, specification)

    return build


def _mobilenet(model: DeeplabSettings, specification: keras.layers.InputSpec) -> keras.Model:
    from official.vision.modeling.backbones.mobilenet import MobileNet

    return MobileNet("MobileNetV2", model.backbone_width, specification, output_stride=model.output_stride)


_BACKBONES = {"resnet50": _resnet(50), "resnet101": _resnet(101), "mobilenet_v2": _mobilenet}


def _summed_pyramid(endpoints: dict[str, tf.Tensor], model: DeeplabV2Settings, outputs: int) -> tf.Tensor:
    features = endpoints[_level(model)]
    branches = []
    for number, rate in enumerate(model.rates, start=1):
        current, side, dilation = features, 3, rate
        for place, width in enumerate(model.branch_widths, start=6):
            name = f"branch{number}_fc{place}"
            current = keras.layers.Conv2D(
                width,
                side,
                padding="same",
                dilation_rate=dilation,
                activation="relu",
                kernel_initializer="he_normal",
                name=name,
            )(current)
            current = CountedDropout(model.dropout, name=f"{name}_dropout")(current)
            side, dilation = 1, 1
        scores = keras.layers.Conv2D(
            outputs, side, padding="same", dilation_rate=dilation, name=f"branch{number}_scores"
        )
        branches.append(scores(current))
    return keras.layers.Add(name="branches")(branches) if len(branches) > 1 else branches[0]


def _joined_pyramid(endpoints: dict[str, tf.Tensor], model: DeeplabV3Settings, outputs: int) -> tf.Tensor:
    from official.vision.modeling.decoders.aspp import ASPP
    from official.vision.modeling.heads.segmentation_heads import SegmentationHead

    level = _level(model)
    pyramid = ASPP(
        level=int(level),
        dilation_rates=list(model.rates),
        num_filters=model.pyramid_width,
        output_tensor=True,
        name="pyramid",
    )(endpoints[level])
    # The library's own dropout keeps its random state outside checkpoints.
    pyramid = CountedDropout(model.dropout, name="pyramid_dropout")(pyramid)
    if isinstance(model, DeeplabV3PlusSettings):
        head = SegmentationHead(
            outputs,
            level=level,
            num_convs=2,
            num_filters=model.decoder_width,
            feature_fusion="deeplabv3plus",
            low_level=_QUARTER,
            low_level_num_filters=model.skip_width,
            name="decoder",
        )
    else:
        head = SegmentationHead(outputs, level=level, num_convs=0, name="decoder")
    return head((endpoints[str(_QUARTER)], pyramid))


def _level(model: DeeplabSettings) -> str:
    """Level of the backbone's last features, as tf-models-official counts: 2 to its power is the output stride."""
    return str(model.output_stride.bit_length() - 1)
