"""Records hold all that a sample knows, are the same however they are made, and damage to them is noticed."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from ustoolkit.data.example import features_to_sample, pixel_digest, sample_to_features
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.records import RecordLoader, Records, record_entries, write_records
from ustoolkit.data.records.unfinished import Fingerprints
from ustoolkit.data.sample import Sample
from ustoolkit.data.source import open_source
from ustoolkit.data.tfrecord import decode_example, encode_example, read_records
from ustoolkit.errors import DataError, OutputError, RecordsError
from ustoolkit.recipe import DataSetSettings

SETTINGS = DataSetSettings()
LABELS = {"benign": 0, "malignant": 1, "normal": 2}


@dataclasses.dataclass(frozen=True)
class Held:
    """Loads what it holds."""

    sample: Sample

    def __call__(self):
        return self.sample


@dataclasses.dataclass(frozen=True)
class Stuck:
    """Says that it was asked, and never answers."""

    sign: Path

    def __call__(self):
        self.sign.touch()
        time.sleep(600)


def sample(name="a", **changes):
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20
    mask = (image[..., 0] > 100).astype(np.uint8)
    known = {"source_id": name, "image": image, "mask": mask, "label": "benign", "patient_id": f"p{name}"}
    return Sample(**{**known, "filename": f"{name}.png", **changes})


def entries(*samples):
    return [Entry(item.source_id, Held(item)) for item in samples]


def several(count):
    return entries(*(sample(f"{number:02}", label="benign" if number % 3 else "malignant") for number in range(count)))


def same(found, expected):
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.image.dtype == expected.image.dtype
    assert (found.mask is None) == (expected.mask is None)
    if expected.mask is not None:
        np.testing.assert_array_equal(found.mask, expected.mask)
        assert found.mask.dtype == expected.mask.dtype
    for name in ("source_id", "label", "patient_id", "filename", "attributes"):
        assert getattr(found, name) == getattr(expected, name), name
    assert (found.spacing_mm is None) == (expected.spacing_mm is None)
    if expected.spacing_mm is not None:
        np.testing.assert_array_equal(found.spacing_mm, np.float32(expected.spacing_mm))
    return True


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))
length = st.floats(1e-3, 99)


@st.composite
def any_sample(draw):
    height, width = draw(sizes)
    attributes = st.recursive(
        st.one_of(st.booleans(), st.integers(), plain, st.floats(allow_nan=False, allow_infinity=False)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(plain, inner, max_size=3)),
        max_leaves=5,
    )
    return Sample(
        source_id=draw(plain),
        image=draw(hypothesis_numpy.arrays(np.uint8, (height, width, draw(st.sampled_from([1, 3]))))),
        mask=draw(st.one_of(st.none(), hypothesis_numpy.arrays(np.uint8, (height, width)))),
        label=draw(plain),
        patient_id=draw(plain),
        spacing_mm=draw(st.one_of(st.none(), st.tuples(length, length))),
        filename=draw(plain),
        attributes=draw(st.dictionaries(plain, attributes, max_size=4)),
    )


@given(any_sample())
@settings(deadline=None, max_examples=100)
def test_a_record_keeps_every_field(original):
    found = features_to_sample(decode_example(encode_example(sample_to_features(original, LABELS))))
    assert same(found, original)


@given(st.lists(any_sample(), min_size=1, max_size=3, unique_by=lambda item: item.source_id))
@settings(deadline=None, max_examples=30)
def test_a_folder_of_records_keeps_every_field_and_its_index(tmp_path_factory, originals):
    made = write_records(entries(*originals), tmp_path_factory.mktemp("records") / "set", SETTINGS, workers=1)
    opened = Records(made.folder)
    for found, row, original in zip(opened.read(), opened.index, originals, strict=True):
        assert same(found, original)
        for name in ("source_id", "label", "patient_id", "spacing_mm", "attributes"):
            assert getattr(row, name) == getattr(original, name), name
        assert (row.height, row.width) == original.image.shape[:2]
        assert row.sha256 == pixel_digest(original.image)
        if original.mask is None:
            assert row.lesion_fraction is None
        else:
            assert row.lesion_fraction == pytest.approx(np.mean(original.mask > 0), abs=1e-6)


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028"])
def test_what_python_takes_for_a_lines_end_may_stand_in_a_name(tmp_path, end):
    made = write_records(entries(sample(f"a{end}b", label=end, attributes={end: end})), tmp_path / "set", SETTINGS)
    assert Records(made.folder).index[0].source_id == f"a{end}b"


@pytest.mark.parametrize(("label", "number"), [("benign", 0), ("malignant", 1), ("cyst", -1), ("", -1)])
def test_labels_get_their_index_and_others_keep_their_text(label, number):
    features = sample_to_features(sample(label=label), LABELS)
    assert features["image/class/label"] == [number]
    assert features_to_sample(features).label == label


def test_a_number_where_a_record_has_bytes_is_told():
    features = sample_to_features(sample(), LABELS) | {"image/filename": [7]}
    with pytest.raises(RecordsError, match=r"^image/filename: expected bytes in a record, found a number"):
        features_to_sample(decode_example(encode_example(features)))


def test_the_truth_of_an_image_is_its_mask_and_asked_of_annotated_ones_only():
    annotated = sample()
    assert annotated.truth is annotated.mask
    with pytest.raises(DataError, match=r"^b: expected an annotated image, found no mask"):
        sample("b", mask=None).truth  # noqa: B018


def test_fingerprints_on_disk_are_a_sequence(tmp_path):
    prints = [b"one", b"", b"three", b"four"]
    for name, content in (("a", prints[:2]), ("b", prints[2:])):
        (tmp_path / name).write_bytes(b"".join(content))
    kept = Fingerprints(tmp_path / "all", [tmp_path / "a", tmp_path / "b"], list(map(len, prints)))
    assert list(kept) == prints and kept[1:] == prints[1:] and kept[::2] == prints[::2]


def test_the_digest_tells_pictures_and_shapes_apart():
    image = np.zeros((2, 6, 1), np.uint8)
    other = image.copy()
    other[0, 0] = 1
    assert len({pixel_digest(image), pixel_digest(other), pixel_digest(image.reshape(3, 4, 1))}) == 3
    assert pixel_digest(np.asfortranarray(image)) == pixel_digest(image)


def test_the_manifest_counts_what_is_there(tmp_path):
    made = write_records(
        [*several(4), *entries(sample("x", mask=None, label="", patient_id="p00"))],
        tmp_path / "set",
        SETTINGS,
    )
    assert made.manifest["counts"] == {
        "images": 5,
        "patients": 4,
        "unlabelled": 1,
        "by_label": {"": 1, "benign": 2, "malignant": 2},
    }
    assert made.classes == ["background", "lesion"]
    assert DataSetSettings(**made.manifest["settings"]) == SETTINGS
    assert sum(shard["records"] for shard in made.manifest["shards"]) == 5


def test_some_ids_can_be_read_alone(tmp_path):
    made = write_records(several(7), tmp_path / "set", SETTINGS, workers=1, images_a_shard=2)
    assert [item.source_id for item in made.read(["05", "01"])] == ["01", "05"]
    assert list(made.read([])) == []
    assert len(list(made.read())) == 7
    made.shards[0].unlink()
    assert [item.source_id for item in made.read(["05"])] == ["05"]


def test_refused_files_are_listed_and_the_others_kept(tmp_path):
    bad = Entry("bad", Refused("bad.png: the image is damaged."))
    one, two = several(2)
    made = write_records([one, bad, two], tmp_path / "set", SETTINGS)
    assert [row.source_id for row in made.index] == ["00", "01"]
    assert made.manifest["refused"] == [{"source_id": "bad", "reason": "bad.png: the image is damaged."}]


def test_a_shard_of_refused_files_alone_does_no_harm(tmp_path):
    one, two = several(2)
    made = write_records([one, Entry("bad", Refused("bad.")), two], tmp_path / "set", SETTINGS, images_a_shard=1)
    made.verify()
    assert [item.source_id for item in made.read()] == ["00", "01"]


def test_where_nothing_can_be_read_no_folder_is_left(tmp_path):
    with pytest.raises(DataError, match=r"no image could be read.*\n  a\.png: damaged"):
        write_records([Entry("a", Refused("a.png: damaged."))], tmp_path / "set", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_old_records_are_replaced_only_when_asked(tmp_path):
    write_records(several(2), tmp_path / "set", SETTINGS)
    with pytest.raises(OutputError, match="--overwrite"):
        write_records(several(3), tmp_path / "set", SETTINGS)
    assert len(Records(tmp_path / "set").index) == 2
    assert len(write_records(several(3), tmp_path / "set", SETTINGS, overwrite=True).index) == 3


class Broken:
    """Loads nothing, by a mistake of its own."""

    def __call__(self):
        raise ZeroDivisionError("half of nothing")


def test_a_fault_in_a_reader_costs_one_image_and_is_named_as_a_fault(tmp_path):
    made = write_records([Entry("bad", Broken()), *several(2)], tmp_path / "set", SETTINGS)
    assert [row.source_id for row in made.index] == ["00", "01"]
    (refused,) = made.manifest["refused"]
    assert refused["source_id"] == "bad"
    assert "fault of ours (ZeroDivisionError: half of nothing)" in refused["reason"]


def test_an_attribute_that_no_json_can_hold_costs_one_image(tmp_path):
    made = write_records(entries(sample("a", attributes={"what": object()}), sample("b")), tmp_path / "set", SETTINGS)
    assert [item.source_id for item in made.read()] == ["b"]


def _write_until_killed(sign, out):
    write_records([*several(3), Entry("stuck", Stuck(sign))], out, SETTINGS, workers=1)


def test_a_killed_conversion_leaves_nothing_that_looks_whole(tmp_path):
    sign, out = tmp_path / "sign", tmp_path / "set"
    process = multiprocessing.get_context("spawn").Process(target=_write_until_killed, args=(sign, out))
    process.start()
    deadline = time.monotonic() + 30
    while not sign.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sign.exists(), "the conversion never came to the image it hangs on"
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(RecordsError):
        Records(out)
    assert len(write_records(several(3), out, SETTINGS).index) == 3


# --- any one of them ---


def test_any_image_can_be_loaded_alone_in_any_order(folder):
    records = Records(folder)
    everything = {item.source_id: item for item in records.read()}
    for name in ("03", "00", "04", "03", "01", "02"):
        assert same(records.load(name), everything[name])


def test_an_offset_is_where_the_record_starts(folder):
    records = Records(folder)
    for path in records.shards:
        rows = [row for row in records.index if row.shard == path.name]
        lengths = [len(message) + 16 for message in read_records(path)]
        assert [row.offset for row in rows] == [sum(lengths[:number]) for number in range(len(lengths))]


def test_an_image_that_is_not_there_is_named(folder):
    with pytest.raises(RecordsError, match="there is no image 'nobody' in these records"):
        Records(folder).load("nobody")


def test_records_are_entries_too_and_can_be_converted_again(folder, tmp_path):
    records = Records(folder)
    found = [pickle.loads(pickle.dumps(entry)) for entry in record_entries(records)]
    for entry, original in zip(found, records.read(), strict=True):
        assert entry.source_id == original.source_id
        assert same(entry.load(), original)
    again = write_records(found, tmp_path / "again", SETTINGS, images_a_shard=2)
    assert again.digest == records.digest
    assert again.index == records.index


def test_a_damaged_record_is_one_refused_entry(folder, tmp_path):
    records = Records(folder)
    row = records.index[3]
    path = folder / row.shard
    content = bytearray(path.read_bytes())
    content[row.offset + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordsError, match=rf"{row.shard}: .* at byte {row.offset}"):
        records.load("03")
    again = write_records(record_entries(records), tmp_path / "again", SETTINGS)
    assert [item["source_id"] for item in again.manifest["refused"]] == ["03"]
    assert len(again.index) == 4


def test_a_record_that_is_another_image_is_noticed(folder):
    records = Records(folder)
    wrong = RecordLoader("04", records.shards[0], 0)
    with pytest.raises(DataError, match="expected the image '04' at byte 0, found '00'"):
        wrong()


def test_a_records_folder_is_a_source_like_any_other(tmp_path, phantom_folder):
    described = DataSetSettings(classes=("background", "mass"), labels=("malignant", "benign"), name="phantoms")
    entries, told = open_source(phantom_folder, described)
    assert told.format == "phantom"
    made = write_records(entries[:5], tmp_path / "set", told)
    found, stored = open_source(made.folder, DataSetSettings(path=str(made.folder), line_width=3))
    assert [entry.source_id for entry in found] == [entry.source_id for entry in entries[:5]]
    assert (stored.classes, stored.labels, stored.name) == (described.classes, described.labels, described.name)
    assert stored.line_width == 3
    assert same(found[2].load(), entries[2].load())


@pytest.mark.parametrize(
    "given",
    [{"patient": r"(\d+)"}, {"classes": ("background", "gland")}, {"labels": ("a",)}, {"format": "table"}],
)
def test_what_records_hold_already_cannot_be_changed(folder, given):
    (name,) = given
    with pytest.raises(DataError, match=f"these records hold {name} .* already"):
        open_source(folder, DataSetSettings(**given))


def test_nothing_secret_is_written_down(tmp_path):
    (tmp_path / "salt.txt").write_text("the secret itself")
    told = DataSetSettings(dicom={"salt_file": str(tmp_path / "salt.txt")})
    made = write_records(several(3), tmp_path / "set", told)
    assert made.manifest["settings"]["dicom"]["salt_file"] == str(tmp_path / "salt.txt")
    assert not any(b"the secret itself" in content for content in content_of(made.folder).values())


# --- damage ---


@pytest.fixture
def folder(tmp_path):
    return write_records(several(5), tmp_path / "set", SETTINGS, workers=1, images_a_shard=2).folder


def test_sound_records_pass(folder):
    Records(folder).verify()


def test_a_missing_folder_or_file_is_named(folder, tmp_path):
    with pytest.raises(RecordsError, match=r"nowhere/manifest\.json: no such file"):
        Records(tmp_path / "nowhere")
    for name in ("manifest.json", "index.jsonl"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(RecordsError, match=f"{name}: no such file.*ustoolkit records"):
            Records(folder)
        (folder / name).write_bytes(content)
    Records(folder).shards[1].unlink()
    with pytest.raises(RecordsError, match="records-00001-of-00003"):
        Records(folder)


@pytest.mark.parametrize("lost", [1, "record"])
def test_a_shard_cut_short_is_noticed_when_the_folder_is_opened(folder, lost):
    """Even between two records, where the shard itself looks sound."""
    shard = Records(folder).shards[0]
    whole = shard.read_bytes()
    first_record = 8 + 4 + int.from_bytes(whole[:8], "little") + 4
    shard.write_bytes(whole[:first_record] if lost == "record" else whole[:-lost])
    with pytest.raises(RecordsError, match=rf"{shard.name}: expected a shard of {len(whole):,} bytes"):
        Records(folder)


def test_a_changed_byte_is_noticed(folder):
    records = Records(folder)
    content = bytearray(records.shards[2].read_bytes())
    content[len(content) // 2] ^= 1
    records.shards[2].write_bytes(content)
    with pytest.raises(RecordsError, match=r"records-00002.*checksum has changed"):
        Records(folder).verify()
    with pytest.raises(RecordsError, match="damaged or cut short at record 0"):
        list(Records(folder).read())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"format_version": 1}',
        '{"format_version": 2}',
        '{"format_version": 2, "shards": 3}',
        '{"format_version": 99}',
    ],
)
def test_a_damaged_manifest_is_answered(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(RecordsError, match=r"ustoolkit records"):
        Records(folder)


@pytest.mark.parametrize("key", ["classes", "counts", "digest", "shards"])
def test_a_manifest_that_lacks_something_is_answered(folder, key):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RecordsError, match="manifest is damaged"):
        Records(folder)


@pytest.mark.parametrize("line", ["{", "[1]", "3", '"text"', "null", "{}", '{"source_id": "a"}', '{"unheard_of": 1}'])
def test_a_damaged_index_is_answered(folder, line):
    path = folder / "index.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], line]) + "\n")
    with pytest.raises(RecordsError, match=r"index\.jsonl: the index is damaged"):
        Records(folder)


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_an_index_cut_short_between_rows_is_answered(folder, kept):
    path = folder / "index.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    with pytest.raises(RecordsError, match="the index has changed since it was written"):
        Records(folder)


# --- TensorFlow ---


def test_tensorflows_own_vision_code_reads_them(tmp_path):
    import tensorflow as tf
    from official.vision.dataloaders.segmentation_input import Decoder

    colour = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    originals = [
        sample("a", image=colour, mask=(colour[..., 0] > 127).astype(np.uint8)),
        sample("b", label="malignant", spacing_mm=(0.1, 0.2)),
    ]
    made = write_records(entries(*originals), tmp_path / "set", SETTINGS)
    messages = tf.data.TFRecordDataset([str(path) for path in made.shards])
    for message, original in zip(messages, originals, strict=True):
        decoded = Decoder().decode(message)
        assert (int(decoded["image/height"]), int(decoded["image/width"])) == original.image.shape[:2]
        image = tf.io.decode_image(decoded["image/encoded"], channels=3).numpy()
        np.testing.assert_array_equal(image, np.broadcast_to(original.image, image.shape))
        mask = tf.io.decode_image(decoded["image/segmentation/class/encoded"], channels=1).numpy()
        np.testing.assert_array_equal(mask[..., 0], original.mask)


def test_conversion_never_imports_tensorflow():
    """Each worker would pay for it with seconds and most of a gigabyte."""
    code = (
        "import sys; from ustoolkit.data import audit, readers, records, split; "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'tf_keras', 'keras', 'imgaug')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
