"""The forms that an export can have: what each file is called, takes and gives, and what it leaves to its caller."""

from dataclasses import dataclass
from typing import Any

from ustoolkit.inference.graph import SegmentationGraph

_CRF, _CLEANING = "the dense CRF", "cleaning of masks, as 'inference' says"


@dataclass(frozen=True)
class Format:
    """One form of an export.

    Attributes:
        file: its name in the folder of a version.
        title: what people call it.
        left_to_the_caller: of what a run does to an image.
    """

    file: str
    title: str
    left_to_the_caller: tuple[str, ...] = (_CRF, _CLEANING)


FORMATS = {
    "saved_model": Format("saved_model.pb", "SavedModel", (_CRF,)),
    "litert-float32": Format("model_float32.tflite", "LiteRT, float32"),
    "litert-float16": Format("model_float16.tflite", "LiteRT, weights in float16"),
    "litert-int8": Format("model_int8.tflite", "LiteRT, int8"),
    "onnx": Format("model.onnx", "ONNX"),
    "keras": Format(
        "model.keras",
        "Keras",
        ("resizing", "mirrored images", "sigmoid or softmax", "the threshold", _CRF, _CLEANING),
    ),
}
"""Forms by the name that the command line gives them."""


def describe_file(form: str, graph: SegmentationGraph) -> dict[str, Any]:
    """What a file other than a SavedModel takes and gives, as `ustoolkit.export.signatures.describe_signatures`.

    Args:
        form: of `FORMATS`.
        graph: that was written into it.
    """
    if form == "keras":
        (data,) = graph.inputs
        size = [None, *data.image_size]
        image = _port("float32", [*size, data.channels], "raw pixel values, 0 to 255, at the network's size")
        logits = _port("float32", [*size, graph.outputs], "before the sigmoid or softmax")
        return {"call": {"inputs": {"image": image}, "outputs": {"logits": logits}}}
    channels = max(data.channels for data in graph.inputs)
    size = [1, None, None]
    probability = "of the lesion at each pixel, or of each class, 0 to 1"
    return {
        "serving_default": {
            "inputs": {"images": _port("uint8", [*size, channels], "one image of any size, 0 to 255")},
            "outputs": {
                "probability": _port("float32", [*size, graph.outputs], probability),
                "mask": _port("uint8", size, "class of each pixel after the threshold, not cleaned"),
            },
        }
    }


def _port(dtype: str, shape: list[int | None], meaning: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "meaning": meaning}
