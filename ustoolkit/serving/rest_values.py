"""Values of TensorFlow Serving's JSON to arrays, checked; and arrays to such values."""

import base64
import binascii
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from ustoolkit.serving.refusal import Refusal
from ustoolkit.serving.served_model import Input

_KINDS: dict[str, set[type]] = {"uint8": {int}, "float32": {int, float}}
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_BYTES = "_bytes"


def array_of(value: Any, port: Input, name: str) -> np.ndarray:
    """Rows of one input.

    Args:
        value: what JSON held, a list of rows.
        port: what the signature takes.
        name: of the input, for messages.
    Returns:
        of the port's type, (rows, *port.shape); strings as an array of bytes objects.
    Raises:
        Refusal: it is of another type or shape, or a number is out of range.
    """
    if not isinstance(value, list) or not value:
        raise Refusal(400, f"{name}: expected a list with a value for each row, found none. Send at least one row.")
    if port.dtype == "string":
        return _strings(value, name)
    expected = f"{name}: expected {_words(port)}"
    array = _numbers(value, port, expected)
    fits = array.ndim == len(port.shape) + 1 and all(
        wanted in (None, size) for wanted, size in zip(port.shape, array.shape[1:], strict=True)
    )
    if not fits or not array.size:
        raise Refusal(400, f"{expected}, found an array of shape {list(array.shape)}. Nest the lists so.")
    return array


def is_base64(value: Any) -> bool:
    """Whether a value is bytes as TensorFlow Serving writes them, {"b64": "…"}."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def values_of(name: str, output: np.ndarray) -> Any:
    """One output as orjson writes it: an array, or a list of strings, or of {"b64": "…"} for a name on '_bytes'."""
    if output.dtype != object:
        return np.ascontiguousarray(output)
    if name.endswith(_BYTES):
        return [{"b64": base64.b64encode(each).decode("ascii")} for each in output.ravel()]
    return [each.decode("utf-8", "replace") for each in output.ravel()]


def rows_of(outputs: Mapping[str, np.ndarray]) -> list[Any]:
    """The outputs row by row: an object each, or the bare value where there is one output only."""
    columns = {name: values_of(name, output) for name, output in sorted(outputs.items())}
    if len(columns) == 1:
        return list(next(iter(columns.values())))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _strings(value: list[Any], name: str) -> np.ndarray:
    decoded = np.empty(len(value), object)
    for row, each in enumerate(value):
        if isinstance(each, str):
            decoded[row] = each.encode("utf-8", "surrogatepass")
        elif is_base64(each):
            try:
                decoded[row] = binascii.a2b_base64(each["b64"], strict_mode=True)
            except ValueError:
                raise Refusal(
                    400, f"{name}, row {row}: expected base64, found something else. Encode the bytes by RFC 4648."
                ) from None
        else:
            raise Refusal(
                400,
                f'{name}, row {row}: expected bytes as {{"b64": "…"}}, found another. Encode them in base64.',
            )
    return decoded


def _numbers(value: list[Any], port: Input, expected: str) -> np.ndarray:
    # Types first, by iterators alone: of texts among numbers NumPy would make one array as wide as the longest.
    flat: Any = value
    for _ in port.shape:
        flat = chain.from_iterable(flat)
    try:
        kinds = set(map(type, flat))
    except TypeError:
        raise Refusal(400, f"{expected}, found fewer dimensions. Nest the lists so.") from None
    if not kinds <= _KINDS[port.dtype]:
        raise Refusal(400, f"{expected}, found other values or more dimensions. Nest the lists so.")
    try:
        array = np.array(value, np.int64 if port.dtype == "uint8" else np.float64)
    except (ValueError, OverflowError, TypeError):
        raise Refusal(400, f"{expected}, found uneven lists or too large numbers. Correct them.") from None
    if array.size and port.dtype == "uint8" and (array.min() < 0 or array.max() > 255):
        raise Refusal(400, f"{expected}, found numbers outside of 0 to 255. Scale the image.")
    if array.size and port.dtype == "float32" and np.abs(array).max() > _LARGEST_FLOAT:
        raise Refusal(400, f"{expected}, found numbers beyond its range. Correct them.")
    return array.astype(port.dtype)


def _words(port: Input) -> str:
    kind = "whole numbers from 0 to 255" if port.dtype == "uint8" else "numbers"
    return f"{kind} in lists of shape [rows, {', '.join('any' if size is None else str(size) for size in port.shape)}]"
