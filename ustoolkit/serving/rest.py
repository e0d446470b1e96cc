"""TensorFlow Serving's REST interface: what a predict request asks for, and how answers are written."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from google.protobuf.message import DecodeError

from ustoolkit.data.tfrecord import decode_example
from ustoolkit.serving.batching import Job
from ustoolkit.serving.image_headers import check_eight_bits, image_size
from ustoolkit.serving.refusal import Refusal
from ustoolkit.serving.rest_values import array_of, is_base64, rows_of, values_of
from ustoolkit.serving.served_model import Input, ServedModel

_DEFAULT = "serving_default"
_COMPACT = "compact"
_FORMATS = ("PNG", "JPEG")  # what TensorFlow decodes of all kinds
_MOST_PIXELS_IN_JSON = 2_000_000  # of answers with probabilities pixel by pixel, at some 40 bytes each
_KEYS = {"signature_name", "instances", "inputs"}
_WRITING = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes:
        rows: images.
        pixels: of all of them together.
    """

    rows: int
    pixels: int


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predict request, understood and checked.

    Attributes:
        job: for the model.
        by_row: whether the answer goes row by row, or else by output.
    """

    job: Job
    by_row: bool

    def written(self, outputs: Mapping[str, np.ndarray]) -> bytes:
        """The answer as JSON. NaN is null, since JSON has none; TensorFlow Serving writes NaN."""
        if self.by_row:
            return orjson.dumps({"predictions": rows_of(outputs)}, option=_WRITING)
        columns = {name: values_of(name, output) for name, output in sorted(outputs.items())}
        return orjson.dumps(
            {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}, option=_WRITING
        )


def read_prediction(body: bytes | bytearray, model: ServedModel, limits: Limits) -> Prediction:
    """Understands the body of a predict request.

    Args:
        body: JSON.
        model: whose signatures there are.
        limits: of what it may hold.
    Raises:
        Refusal: it is not what TensorFlow Serving's documentation describes, or not what the signature takes; or it
            holds more than the limits allow.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(
            400, "expected JSON, found something else. Send an object with 'instances' or 'inputs'."
        ) from None
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request) or not set(request) <= _KEYS:
        raise Refusal(
            400,
            "expected an object with either 'instances' or 'inputs', and 'signature_name' if any, found another. See "
            " TensorFlow Serving's REST API.",
        )
    signature = request.get("signature_name") or _DEFAULT
    ports = model.inputs.get(signature) if isinstance(signature, str) else None
    if ports is None:
        raise Refusal(400, f"signature_name: expected one of {', '.join(model.inputs)}, found another. Choose one.")
    by_row = "instances" in request
    values = _columns(request["instances"], ports) if by_row else _named(request["inputs"], ports)
    for name, value in values.items():
        if isinstance(value, list) and len(value) > limits.rows:
            raise Refusal(
                413,
                f"{name}: expected at most {limits.rows} rows in a request, found {len(value):,}. Send the others in "
                "requests of their own.",
            )
    inputs = {name: array_of(values[name], port, name) for name, port in ports.items()}
    return Prediction(_job(signature, inputs, limits), by_row)


def model_status(model: ServedModel) -> dict[str, Any]:
    """The model's status as TensorFlow Serving writes it."""
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": model.version, "state": "AVAILABLE", "status": status}]}


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """The model's signatures as TensorFlow Serving writes them."""
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": model.version},
        "metadata": {"signature_def": {"signature_def": model.signature_defs}},
    }


def _columns(instances: Any, ports: Mapping[str, Input]) -> dict[str, Any]:
    """Rows as columns: an object each, or for a single input its bare value."""
    if not isinstance(instances, list) or not instances:
        raise Refusal(400, "instances: expected a list of one row or more, found none. Send at least one.")
    if isinstance(instances[0], dict) and not is_base64(instances[0]):
        for row, each in enumerate(instances):
            if not isinstance(each, dict) or set(each) != set(ports):
                raise Refusal(
                    400, f"instances, row {row}: expected an object with {', '.join(ports)}, found another. Correct it."
                )
        return {name: [each[name] for each in instances] for name in ports}
    if len(ports) > 1:
        raise Refusal(
            400, f"instances: expected objects with {', '.join(ports)}, found bare values. Name each row's values."
        )
    return dict.fromkeys(ports, instances)


def _named(inputs: Any, ports: Mapping[str, Input]) -> dict[str, Any]:
    if isinstance(inputs, dict) and not is_base64(inputs):
        if set(inputs) != set(ports):
            raise Refusal(400, f"inputs: expected {', '.join(ports)}, found other names. Correct them.")
        return inputs
    if len(ports) > 1:
        raise Refusal(400, f"inputs: expected an object with {', '.join(ports)}, found a bare value. Name the values.")
    return dict.fromkeys(ports, inputs)


def _job(signature: str, inputs: Mapping[str, np.ndarray], limits: Limits) -> Job:
    rows = {len(array) for array in inputs.values()}
    if len(rows) > 1:
        raise Refusal(400, f"expected as many rows of each of {', '.join(inputs)}, found different ones. Correct them.")
    sizes = _sizes(inputs, limits.pixels)
    pixels = sum(height * width for height, width in sizes)
    kind: Hashable = ()
    if signature != _COMPACT:
        # Answers of images that differ in size are padded to the largest, which must be one of the same request.
        kind = tuple(max(side) for side in zip(*sizes, strict=True))
        pixels = math.prod(kind) * len(sizes)
        if "images" in inputs:
            kind = inputs["images"].shape[1:]
    allowed = limits.pixels if signature == _COMPACT else min(limits.pixels, _MOST_PIXELS_IN_JSON)
    if pixels > allowed:
        raise Refusal(
            413,
            f"expected at most {allowed:,} pixels in a request, found {pixels:,}. Send fewer or smaller images"
            + (f", or ask for the signature '{_COMPACT}'." if allowed < limits.pixels else "."),
        )
    return Job(signature, kind, inputs, rows.pop(), pixels)


def _sizes(inputs: Mapping[str, np.ndarray], largest_pixels: int) -> list[tuple[int, int]]:
    """Height and width of each image, and that they are images."""
    if "images" in inputs:
        count, height, width, channels = inputs["images"].shape
        if channels not in (1, 3):
            raise Refusal(400, f"images: expected 1 or 3 channels, found {channels}. Send grey or RGB.")
        return [(height, width)] * count
    contents = inputs["image_bytes"] if "image_bytes" in inputs else [_encoded(each) for each in inputs["examples"]]
    sizes = []
    for row, content in enumerate(contents):
        height, width, kind = image_size(content, _FORMATS, largest_pixels, f"image {row}")
        check_eight_bits(content, kind, f"image {row}")
        sizes.append((height, width))
    return sizes


def _encoded(example: bytes) -> bytes:
    try:
        values = decode_example(example).get("image/encoded", [])
    except DecodeError:
        values = []
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise Refusal(
            400, "examples: expected a serialised tf.train.Example with one image/encoded, found none. Send records."
        )
    return values[0]
