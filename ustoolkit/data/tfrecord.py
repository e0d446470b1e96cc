"""TFRecord files of `tf.train.Example` messages, read and written without TensorFlow.

Conversion runs in many processes, and importing TensorFlow costs each of them 0.7 GB and some ten seconds. The file
format is small: each record is its length (uint64), the masked CRC-32C of those 8 bytes, the message, and the
message's masked CRC-32C. The message type is declared here as in TensorFlow's `example.proto` and `feature.proto`.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ustoolkit.errors import RecordsError

Feature = list[bytes] | list[int] | list[float]
_HEADER_BYTES = 12  # the length and its checksum


class Writable(Protocol):
    """What bytes can be appended to: a file, or what counts them on the way."""

    def write(self, content: bytes, /) -> object:
        """Appends bytes."""


def write_record(file: Writable, message: bytes) -> None:
    """Appends one record to an open binary file."""
    length = struct.pack("<Q", len(message))
    file.write(length + _masked_crc(length) + message + _masked_crc(message))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the messages of a TFRecord file.

    Raises:
        RecordsError: the file is missing, cut short, or damaged; the message says at which record.
    """
    with _opened(path) as file:
        number = 0
        while header := file.read(_HEADER_BYTES):
            yield _message(file, header, f"{path}: the shard is damaged or cut short at record {number}.")
            number += 1


def read_record_at(path: Path, offset: int) -> bytes:
    """The message of the record that starts at a byte of a TFRecord file.

    Raises:
        RecordsError: the file is missing, cut short, or damaged, or no record starts there.
    """
    with _opened(path) as file:
        file.seek(offset)
        return _message(file, file.read(_HEADER_BYTES), f"{path}: the shard is damaged or cut short at byte {offset}.")


def encode_example(features: dict[str, Feature]) -> bytes:
    """Serialises named features to a `tf.train.Example`; the same features give the same bytes.

    Args:
        features: lists of bytes, int or float by name; an empty list is a feature without values.
    """
    example = _Example()
    for name in sorted(features):
        values = features[name]
        feature = example.features.feature[name]
        if not values:
            feature.SetInParent()
        elif isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return example.SerializeToString(deterministic=True)


def decode_example(message: bytes) -> dict[str, Feature]:
    """The features of a serialised `tf.train.Example`, as `encode_example` took them."""
    example = _Example.FromString(message)
    decoded: dict[str, Feature] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        decoded[name] = list(getattr(feature, kind).value) if kind else []
    return decoded


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as problem:
        raise RecordsError(f"{path}: cannot read the shard ({problem.strerror}). Convert the data set again.") from None
    with file:
        yield file


def _message(file: BinaryIO, header: bytes, complaint: str) -> bytes:
    sound = len(header) == _HEADER_BYTES and _masked_crc(header[:8]) == header[8:]
    length = struct.unpack("<Q", header[:8])[0] if sound else 0
    body = file.read(length + 4) if sound else b""
    if not sound or len(body) != length + 4 or _masked_crc(body[:-4]) != body[-4:]:
        raise RecordsError(f"{complaint} Convert the data set again.")
    return body[:-4]


def _masked_crc(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _example_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ustoolkit/example.proto", package="ustoolkit", syntax="proto3")
    for list_name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        message = file.message_type.add(name=list_name)
        message.field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, list_name) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), start=1
    ):
        feature.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".ustoolkit.{list_name}",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        type_name=".ustoolkit.Feature",
        label=field.LABEL_OPTIONAL,
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".ustoolkit.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".ustoolkit.Features",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()  # our own, so that TensorFlow's declarations are not met
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ustoolkit.Example"))


_Example = _example_class()
