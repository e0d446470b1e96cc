"""Our TFRecord files are TensorFlow's to the byte, and damage to them is noticed."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustoolkit.data.tfrecord import decode_example, encode_example, read_records, write_record
from ustoolkit.errors import RecordsError

int64 = st.integers(-(2**63), 2**63 - 1)
single = st.floats(width=32, allow_nan=False)
values = st.one_of(
    st.lists(st.binary(max_size=20), max_size=4),
    st.lists(int64, min_size=1, max_size=4),
    st.lists(single, min_size=1, max_size=4),
)
features = st.dictionaries(st.text(max_size=12), values, max_size=6)


def file_of(*messages):
    stream = io.BytesIO()
    for message in messages:
        write_record(stream, message)
    return stream.getvalue()


@given(st.lists(st.binary(max_size=50), max_size=5))
@settings(deadline=None, max_examples=50)
def test_files_equal_tensorflows_to_the_byte(tmp_path_factory, messages):
    import tensorflow as tf

    path = tmp_path_factory.mktemp("records") / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message)
    assert file_of(*messages) == path.read_bytes()
    assert list(read_records(path)) == messages


def test_tensorflow_reads_ours(tmp_path):
    import tensorflow as tf

    messages = [b"", b"one", bytes(range(256)) * 500]
    (tmp_path / "ours.tfrecord").write_bytes(file_of(*messages))
    found = [item.numpy() for item in tf.data.TFRecordDataset([str(tmp_path / "ours.tfrecord")])]
    assert found == messages


@given(features)
@settings(deadline=None, max_examples=150)
def test_features_come_back(content):
    assert decode_example(encode_example(content)) == content


@given(features)
@settings(deadline=None, max_examples=100)
def test_tensorflow_and_we_read_each_others_examples(content):
    import tensorflow as tf

    theirs = tf.train.Example.FromString(encode_example(content))
    for name, expected in content.items():
        kind = theirs.features.feature[name].WhichOneof("kind")
        assert kind == (
            {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(expected[0])] if expected else None
        )
        if kind:
            assert list(getattr(theirs.features.feature[name], kind).value) == expected
    assert len(theirs.features.feature) == len(content)
    assert decode_example(theirs.SerializeToString()) == content


def test_the_same_features_give_the_same_bytes_in_any_order():
    names = [f"name {number}" for number in range(20)]
    content = {name: [name.encode()] for name in names}
    backwards = {name: content[name] for name in reversed(names)}
    assert encode_example(content) == encode_example(backwards)


def test_numpy_is_not_mistaken_for_a_number():
    with pytest.raises(TypeError):
        encode_example({"a": [np.array([1, 2])]})


MESSAGES = [b"first", b"", b"the third"]


def test_a_file_cut_at_any_byte_is_noticed_but_between_records(tmp_path):
    """A cut exactly between two records leaves a sound file; there the manifest's size of the shard tells."""
    whole = file_of(*MESSAGES)
    borders = {len(file_of(*MESSAGES[:count])): count for count in range(len(MESSAGES) + 1)}
    path = tmp_path / "cut.tfrecord"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        if length in borders:
            assert list(read_records(path)) == MESSAGES[: borders[length]]
        else:
            complete = sum(border <= length for border in borders) - 1
            records = read_records(path)
            assert [next(records) for _ in range(complete)] == MESSAGES[:complete]
            with pytest.raises(RecordsError, match=rf"cut\.tfrecord: .*at record {complete}\."):
                next(records)


def test_every_flipped_bit_is_noticed(tmp_path):
    whole = file_of(*MESSAGES)
    path = tmp_path / "flipped.tfrecord"
    for position in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(RecordsError, match=r"damaged or cut short at record [012]"):
            list(read_records(path))


@given(st.binary(min_size=1, max_size=60))
def test_bytes_that_are_no_records_are_answered(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "noise.tfrecord"
    path.write_bytes(content)
    with pytest.raises(RecordsError):
        list(read_records(path))


def test_a_missing_file_is_answered(tmp_path):
    with pytest.raises(RecordsError, match=r"gone\.tfrecord: cannot read the shard"):
        list(read_records(tmp_path / "gone.tfrecord"))
