"""Which pixels the units of a tensor look at, and how each operation of TensorFlow widens that."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import tensorflow as tf

_SPACE = (1, 2)  # axes of a tensor: rows and columns

# Each place of the output is computed from the same place of the inputs, or from one value for all places.
_PLACEWISE = re.compile(
    "Abs|Add(N|V2)?|BiasAdd|Cast|CheckNumerics|ClipByValue|Cos|Div(NoNan)?|Elu|EnsureShape|Equal|Erf|Exp|Expm1|Floor|"
    "FloorDiv|Greater(Equal)?|Identity|LeakyRelu|Less(Equal)?|Log|Log1p|Logical(And|Not|Or)|LogSoftmax|Maximum|Minimum|"
    "Mul(NoNan)?|Neg|NotEqual|Pow|PreventGradient|RealDiv|Reciprocal|Relu6?|Round|Rsqrt|Select(V2)?|Selu|Sigmoid|Sign|Sin|Snapshot|"
    "Softmax|Softplus|Softsign|Sqrt|Square|SquaredDifference|StopGradient|Sub|Tanh"
)
# As long as batch, height and width stay as they are, so does what each place is computed from.
_ARRANGING = re.compile("BroadcastTo|ConcatV2|ExpandDims|Pack|Reshape|Split(V)?|Squeeze|Tile|Unpack")
_REDUCING = re.compile("All|Any|ArgMax|ArgMin|EuclideanNorm|Max|Mean|Min|Prod|Sum")


@dataclass(frozen=True)
class Extent:
    """Which pixels the units of a tensor look at, along one side of the image.

    The pattern repeats: with n numbers in `low`, unit q · n + r looks from pixel q · n · stride + low[r] to pixel
    q · n · stride + high[r].

    Attributes:
        stride: pixels from a unit to the next; 0 where one value stands for the whole side.
        low: of the first units; empty where all look at the whole image.
        high: likewise; below `low` where a unit looks at nothing.
        dilation: units from one to its neighbour in the tensor; those between stand in the batch.
    """

    stride: Fraction = Fraction(0)
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dilation: int = 1

    @property
    def pixels(self) -> float:
        """From the first to the last that a unit looks at, of the unit that sees most; infinite for the whole image."""
        if not self.low:
            return math.inf
        return float(max(0, *(last - first + 1 for first, last in zip(self.low, self.high, strict=True))))

    def at(self, unit: int) -> tuple[float, float]:
        """The first and the last pixel of a unit."""
        turns, place = divmod(unit, len(self.low))
        start = int(turns * len(self.low) * self.stride)
        return self.low[place] + start, self.high[place] + start

    def through(self, ratio: Fraction, taps: Callable[[int], Iterable[int]]) -> "Extent":
        """The extent behind an operation.

        Args:
            ratio: units of its input that one unit of its output moves on by.
            taps: from the number of a unit of its output to those of its input that the unit is computed from.
        Returns:
            that of its output.
        """
        if self.dilation != 1 and ratio != 1:
            return Extent()
        if not self.low:
            return replace(self, stride=self.stride * ratio)
        period = ratio.denominator * (len(self.low) // math.gcd(len(self.low), ratio.numerator))
        low, high = [], []
        for unit in range(period):
            seen = [self.at(unit + self.dilation * (tap - unit)) for tap in taps(unit)]
            low.append(min((first for first, _ in seen), default=math.inf))
            high.append(max((last for _, last in seen), default=-math.inf))
        return replace(self, stride=self.stride * ratio, low=tuple(low), high=tuple(high))

    def shifted(self, units: int, step: int = 1) -> "Extent":
        """The extent of every `step`-th unit from number `units` on."""
        return self.through(Fraction(step), lambda unit: [unit * step + units])


Extents = tuple[Extent, Extent]  # down and across
_WHOLE: Extents = (Extent(), Extent())


def behind(operation: tf.Operation, given: Sequence[Extents | None]) -> Extents:
    """The extents of an operation's outputs.

    Args:
        operation: in a graph of static shapes, with channels last.
        given: extents of its inputs, None where the image has no part in one; it has in one at least.
    Returns:
        down and across; the whole image where the operation, or what it does here, is not known.
    """
    kind = operation.type
    if kind in _MOVING:
        source = 2 if kind == "Conv2DBackpropInput" else 0
        moved, alone = given[source], [place for place, extents in enumerate(given) if extents] == [source]
        known = operation.inputs[source].shape.rank == 4 and _layout(operation) == b"NHWC"
        return _MOVING[kind](operation, moved) if moved and alone and known else _WHOLE
    if kind.startswith("FusedBatchNorm"):
        return _WHOLE if operation.get_attr("is_training") else _union(operation, given)
    if _REDUCING.fullmatch(kind):
        known = _reduced_axes(operation)
        return _union(operation, given) if known and min(known) > max(_SPACE) else _WHOLE
    if _ARRANGING.fullmatch(kind) or (kind == "Transpose" and _stays(operation)):
        out, image = operation.outputs[0], operation.inputs[next(n for n, each in enumerate(given) if each)]
        ranks = out.shape.rank is not None and image.shape.rank is not None
        return _union(operation, given) if ranks and out.shape[:3] == image.shape[:3] else _WHOLE
    return _union(operation, given) if _PLACEWISE.fullmatch(kind) else _WHOLE


def _union(operation: tf.Operation, given: Sequence[Extents | None]) -> Extents:
    """What units of several tensors look at together, place by place."""
    out = operation.outputs[0].shape

    def side(place: int) -> Extent:
        axis, parts = _SPACE[place], []
        for tensor, extents in zip(operation.inputs, given, strict=True):
            if extents is not None:
                fits = axis < (tensor.shape.rank or 0) and axis < (out.rank or 0) and tensor.shape[axis] == out[axis]
                parts.append(extents[place] if fits else Extent())
        return _together(parts)

    return _both(side)


def _both(side: Callable[[int], Extent]) -> Extents:
    return side(0), side(1)


def _together(parts: Sequence[Extent]) -> Extent:
    strides = {part.stride for part in parts if part.stride}
    dilations = {part.dilation for part in parts}
    if not all(part.low for part in parts) or len(strides) > 1 or len(dilations) > 1:
        return Extent(min(strides, default=Fraction(0)), dilation=max(dilations))
    units = [[part.at(unit) for part in parts] for unit in range(math.lcm(*(len(part.low) for part in parts)))]
    low = tuple(min(first for first, _ in seen) for seen in units)
    high = tuple(max(last for _, last in seen) for seen in units)
    return replace(parts[0], low=low, high=high)


def _window(operation: tf.Operation, given: Extents) -> Extents:
    """Convolutions and pooling."""
    pooling = operation.type.endswith("Pool")
    kernel = operation.get_attr("ksize")[1:3] if pooling else operation.inputs[1].shape[:2].as_list()
    dilations = (1, 1) if pooling else operation.get_attr("dilations")[1:3]

    def side(place: int) -> Extent:
        stride, dilation, taps = operation.get_attr("strides")[1 + place], dilations[place], kernel[place]
        small, large = operation.outputs[0], operation.inputs[0]
        before = _padding(operation, place, small, large, dilation * (taps - 1) + 1)
        return given[place].through(
            Fraction(stride), lambda unit: [unit * stride - before + dilation * tap for tap in range(taps)]
        )

    return side(0), side(1)


def _transposed(operation: tf.Operation, given: Extents) -> Extents:
    """Transposed convolution: a unit is computed from those that, convolved, would be computed from it."""

    def side(place: int) -> Extent:
        stride, dilation = (operation.get_attr(name)[1 + place] for name in ("strides", "dilations"))
        taps = operation.inputs[1].shape[place]
        small, large = operation.inputs[2], operation.outputs[0]
        before = _padding(operation, place, small, large, dilation * (taps - 1) + 1)

        def seen(unit: int) -> list[int]:
            places = [unit + before - dilation * tap for tap in range(taps)]
            return [each // stride for each in places if each % stride == 0]

        return given[place].through(Fraction(1, stride), seen)

    return side(0), side(1)


def _padding(operation: tf.Operation, place: int, small: tf.Tensor, large: tf.Tensor, reach: int) -> int:
    """Units that a convolution or pooling adds before the first; `reach` is its kernel's, with gaps."""
    padding = operation.get_attr("padding")
    if padding == b"EXPLICIT":
        return operation.get_attr("explicit_paddings")[2 * (1 + place)]
    if padding == b"VALID":
        return 0
    stride = operation.get_attr("strides")[1 + place]
    return max(0, (small.shape[1 + place] - 1) * stride + reach - large.shape[1 + place]) // 2


def _resized(operation: tf.Operation, given: Extents) -> Extents:
    if operation.get_attr("align_corners"):
        return _WHOLE
    centre = Fraction(1, 2) if operation.get_attr("half_pixel_centers") else Fraction(0)

    def side(place: int) -> Extent:
        ratio = _ratio(operation.inputs[0].shape[1 + place], operation.outputs[0].shape[1 + place])

        def seen(unit: int) -> list[int]:
            if operation.type == "ResizeNearestNeighbor":
                return [math.floor((unit + centre) * ratio)]
            position = (unit + centre) * ratio - centre
            before = math.floor(position)
            return [before, before + (position != before)]

        return given[place].through(ratio, seen)

    return side(0), side(1)


def _ratio(before: int, after: int) -> Fraction:
    """Units before a resizing for one after it, or one over that, a whole number but for sides that were rounded."""
    return Fraction(1, round(after / before)) if after >= before else Fraction(round(before / after))


def _padded(operation: tf.Operation, given: Extents) -> Extents:
    paddings = tf.get_static_value(operation.inputs[1])
    if paddings is None:
        return _WHOLE
    return _both(lambda place: given[place].shifted(-int(paddings[1 + place][0])))


def _space_to_batch(operation: tf.Operation, given: Extents) -> Extents:
    """Every n-th place into an image of its own, which is how a dilated convolution is computed."""
    block, paddings = (tf.get_static_value(tensor) for tensor in operation.inputs[1:])
    if block is None or paddings is None or len(block) != 2 or any(each.dilation != 1 for each in given):
        return _WHOLE
    return _both(lambda place: replace(given[place].shifted(-int(paddings[place][0])), dilation=int(block[place])))


def _batch_to_space(operation: tf.Operation, given: Extents) -> Extents:
    block, crops = (tf.get_static_value(tensor) for tensor in operation.inputs[1:])
    if block is None or crops is None or [each.dilation for each in given] != list(block):
        return _WHOLE
    return _both(lambda place: replace(given[place], dilation=1).shifted(int(crops[place][0])))


def _sliced(operation: tf.Operation, given: Extents) -> Extents:
    rank = operation.inputs[0].shape.rank
    begin = tf.get_static_value(operation.inputs[1])
    if begin is None or operation.outputs[0].shape.rank != rank:
        return _WHOLE
    if operation.type == "Slice":
        return _both(lambda place: given[place].shifted(int(begin[1 + place])))
    masks = {name: operation.get_attr(f"{name}_mask") for name in ("begin", "ellipsis", "new_axis", "shrink_axis")}
    steps = tf.get_static_value(operation.inputs[3])
    if steps is None or masks["new_axis"] or masks["shrink_axis"]:
        return _WHOLE
    # Where an ellipsis stands for several axes, what is said behind it is about the last ones.
    ellipsis = masks["ellipsis"].bit_length() - 1 if masks["ellipsis"] else len(begin)

    def side(place: int) -> Extent:
        axis = 1 + place
        said = axis if axis < ellipsis else axis - rank + len(begin)
        if said >= len(begin) or (axis >= ellipsis and said <= ellipsis):
            return given[place]
        if steps[said] < 1:
            return Extent()
        start = 0 if masks["begin"] >> said & 1 else int(begin[said])
        return given[place].shifted(start % operation.inputs[0].shape[axis], int(steps[said]))

    return side(0), side(1)


def _regrouped(operation: tf.Operation, given: Extents) -> Extents:
    """A square of places into the channels of one, or the other way round."""
    block = operation.get_attr("block_size")
    if operation.type == "DepthToSpace":
        return _both(lambda place: given[place].through(Fraction(1, block), lambda unit: [unit // block]))
    return _both(
        lambda place: given[place].through(Fraction(block), lambda unit: range(unit * block, (unit + 1) * block))
    )


def _layout(operation: tf.Operation) -> bytes:
    return operation.get_attr("data_format") if "data_format" in operation.node_def.attr else b"NHWC"


def _reduced_axes(operation: tf.Operation) -> list[int]:
    """The axes that are reduced; none where they, or their number, are not known."""
    axes, rank = tf.get_static_value(operation.inputs[1]), operation.inputs[0].shape.rank
    return [] if axes is None or not rank else [int(axis) % rank for axis in axes.reshape(-1)]


def _stays(operation: tf.Operation) -> bool:
    """Whether a transposition leaves batch, height and width in their places."""
    order = tf.get_static_value(operation.inputs[1])
    return order is not None and list(order[:3]) == [0, 1, 2]


_MOVING: dict[str, Callable[[tf.Operation, Extents], Extents]] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"), _window),
    "Conv2DBackpropInput": _transposed,
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor"), _resized),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _padded),
    "SpaceToBatchND": _space_to_batch,
    "BatchToSpaceND": _batch_to_space,
    **dict.fromkeys(("Slice", "StridedSlice"), _sliced),
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), _regrouped),
}
