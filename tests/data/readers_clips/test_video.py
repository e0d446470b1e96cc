"""Frame k is frame k however it is reached, clips say who and where, and damaged ones give what can be decoded."""

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from tests.data.readers_clips.making import make_clip, mask_of, number_of, numbered_frame
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import detect, open_data_set, video_file
from ustoolkit.data.readers.video_file import FrameReader, count_frames
from ustoolkit.data.records import write_records
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

CODECS = [
    ("avi", "MJPG"),
    ("avi", "FFV1"),
    ("avi", "XVID"),
    ("mp4", "mp4v"),
    ("mov", "mp4v"),
    ("mkv", "FFV1"),
    ("mkv", "VP90"),
    ("webm", "VP90"),
    ("wmv", "WMV2"),
]


def entries(root, **changes):
    return open_data_set(root, DataSetSettings(format="video", **changes))


def samples(root, **changes):
    return [entry.load() for entry in entries(root, **changes)]


def outcomes(root, **changes):
    """Frame numbers that were read, and answers to those that were not."""
    read, answers = [], []
    for entry in entries(root, **changes):
        try:
            sample = entry.load()
        except DataError as problem:
            answers.append(str(problem))
        else:
            read.append(sample.attributes["frame"])
    return read, answers


def write_mask(path, side=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(mask_of(side, side)))


# --- frames ---


@pytest.mark.parametrize(("suffix", "codec"), CODECS)
def test_frame_k_is_frame_k_in_any_order(suffix, codec, tmp_path):
    make_clip(tmp_path / f"a.{suffix}", frames=40, codec=codec)
    found = entries(tmp_path, every_frame=1)
    assert len(found) == 40
    random.Random(0).shuffle(found)
    for entry in found:
        sample = pickle.loads(pickle.dumps(entry)).load()
        assert number_of(sample.image) == sample.attributes["frame"] == int(sample.source_id.partition("#")[2])


def test_every_kth_frame_is_taken_from_the_first(tmp_path):
    make_clip(tmp_path / "sweep.avi", frames=25)
    found = samples(tmp_path)
    assert [sample.source_id for sample in found] == ["sweep#0000", "sweep#0010", "sweep#0020"]
    assert [number_of(sample.image) for sample in found] == [0, 10, 20]
    assert {sample.patient_id for sample in found} == {"sweep"}
    assert {sample.filename for sample in found} == {"sweep.avi"}
    assert found[1].attributes == {"frame": 10, "frame_rate": 25.0}


def test_pixels_are_red_green_blue_and_grey_is_one_channel(tmp_path):
    make_clip(tmp_path / "colour.mkv", codec="FFV1", colour=(200, 60, 10))
    make_clip(tmp_path / "grey.mkv", codec="FFV1")
    colour, grey = (entry.load() for entry in entries(tmp_path, every_frame=100))
    np.testing.assert_allclose(colour.image[5, 5].astype(int), (200, 60, 10), atol=2)
    np.testing.assert_array_equal(grey.image, numbered_frame(0)[..., :1])


def test_a_patient_may_be_told_from_the_name(tmp_path):
    for name in ("p7_a.avi", "p7_b.avi"):
        make_clip(tmp_path / name)
    assert {sample.patient_id for sample in samples(tmp_path, patient=r"^(p\d+)_")} == {"p7"}


def test_a_folder_gives_the_label_and_equal_names_are_told_apart(tmp_path):
    for name in ("benign/a.avi", "malignant/a.avi", "malignant/a.mkv"):
        make_clip(tmp_path / name, codec="FFV1")
    found = {sample.source_id: sample.label for sample in samples(tmp_path, every_frame=100)}
    assert found == {
        "benign/a#0000": "benign",
        "malignant/a.avi#0000": "malignant",
        "malignant/a.mkv#0000": "malignant",
    }


def test_converting_opens_a_clip_once_whatever_its_length(tmp_path, monkeypatch):
    opened = []

    class Counted(FrameReader):
        def __init__(self, path):
            opened.append(path.name)
            super().__init__(path)

        def read(self, frame):
            assert frame >= self._next  # nothing is decoded twice
            return super().read(frame)

    monkeypatch.setattr(video_file, "FrameReader", Counted)
    for name in ("a.avi", "b.avi"):
        make_clip(tmp_path / "in" / name, frames=40)
    settings = DataSetSettings(format="video", every_frame=3)
    records = write_records(entries(tmp_path / "in", every_frame=3), tmp_path / "out", settings, workers=1)
    assert len(records.index) == 28
    assert opened == ["a.avi", "b.avi"]


def test_a_clip_that_is_replaced_is_read_anew(tmp_path):
    make_clip(tmp_path / "a.mkv", codec="FFV1")
    assert number_of(samples(tmp_path, every_frame=5)[1].image) == 5
    make_clip(tmp_path / "a.mkv", codec="FFV1", colour=(9, 9, 9), frames=13)
    assert number_of(samples(tmp_path, every_frame=5)[1].image) == 0


# --- masks ---


@pytest.mark.parametrize("mask", ["a_0010_mask.png", "masks/a_0010.png", "masks/a#0010.png", "a_0003_mask.png"])
def test_a_mask_of_a_frame_is_that_frames_which_is_taken(mask, tmp_path):
    make_clip(tmp_path / "a.avi")
    make_clip(tmp_path / "b.avi")
    write_mask(tmp_path / mask)
    assert detect(tmp_path) == "video"
    (annotated,) = (sample for sample in samples(tmp_path) if sample.mask is not None)
    number = 3 if "0003" in mask else 10
    assert annotated.source_id == f"a#{number:04}"
    assert number_of(annotated.image) == number
    np.testing.assert_array_equal(annotated.mask, mask_of(32, 32) > 0)


@pytest.mark.parametrize(
    ("mask", "answer"),
    [("other_0010_mask.png", "no clip"), ("a_mask.png", "its frame"), ("a_0099_mask.png", "12 frames were decoded")],
)
def test_a_mask_of_nothing_is_said(mask, answer, tmp_path):
    make_clip(tmp_path / "a.avi")
    write_mask(tmp_path / mask)
    read, (said,) = outcomes(tmp_path)
    assert read == [0, 10]
    assert answer in said


def test_a_mask_of_another_size_is_refused(tmp_path):
    make_clip(tmp_path / "a.avi")
    write_mask(tmp_path / "a_0010_mask.png", side=16)
    assert "16 × 16" in outcomes(tmp_path)[1][0]


@pytest.mark.parametrize("others", [["x.png", "x_mask.png"], ["images/x.png", "table.csv"]])
def test_annotated_images_come_before_clips(others, tmp_path):
    make_clip(tmp_path / "a.avi")
    for name in others:
        write_mask(tmp_path / name)
    (tmp_path / "table.csv").write_text("id,label\nx,benign\n")
    assert detect(tmp_path) != "video"


# --- damage ---


def test_a_header_that_counts_wrong_is_not_believed(tmp_path):
    path = make_clip(tmp_path / "a.avi", frames=12)
    content = bytearray(path.read_bytes())
    place = content.index(b"avih") + 8 + 16  # total frames
    assert content[place] == 12
    stream = content.index(b"strh") + 8 + 32  # length in frames
    assert content[stream] == 12
    for announced in (0, 3, 60_000):
        content[place : place + 4] = content[stream : stream + 4] = announced.to_bytes(4, "little")
        path.write_bytes(content)
        assert outcomes(tmp_path, every_frame=1) == (list(range(12)), [])


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mkv", "FFV1")])
@pytest.mark.parametrize("kept", [0.5, 0.8, 0.95])
def test_a_clip_cut_short_gives_the_frames_that_are_there(suffix, codec, kept, tmp_path):
    path = make_clip(tmp_path / f"a.{suffix}", frames=40, codec=codec)
    content = path.read_bytes()
    path.write_bytes(content[: round(kept * len(content))])
    read, answers = outcomes(tmp_path, every_frame=1)
    assert len(read) >= 40 * kept * 0.5
    assert read == list(range(len(read)))
    assert all("a." in answer for answer in answers)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video at all",
        b"RIFF\0\0\0\0AVI ",
        b"\0\0\0\x18ftypisom",
        b"#EXTM3U\nhttp://localhost/a.avi\n",
        bytes(5000),
    ],
    ids=["nothing", "text", "head of AVI", "head of MP4", "playlist", "zeros"],
)
def test_what_is_no_video_is_refused_by_name(content, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(content)
    make_clip(tmp_path / "good.avi")
    read, (answer,) = outcomes(tmp_path)
    assert read == [0, 10]
    assert "bad.mp4" in answer


def test_a_name_of_a_pattern_is_a_name(tmp_path):
    make_clip(tmp_path / "take%03d.avi")
    assert [sample.source_id for sample in samples(tmp_path)] == ["take%03d#0000", "take%03d#0010"]


def test_too_many_frames_or_pixels_are_refused(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.avi")
    assert count_frames(path) == 12
    monkeypatch.setattr(video_file, "MOST_FRAMES", 11)
    with pytest.raises(DataError, match="more than 11"):
        count_frames(path)
    monkeypatch.setattr(video_file, "LARGEST_PIXELS", 32 * 32 - 1)
    with pytest.raises(DataError, match="32 × 32"):
        count_frames(path)


_FUZZ = """
import collections, random, sys
from pathlib import Path
from ustoolkit.data.readers import open_data_set
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

chance, seen = random.Random(0), collections.Counter()
path = Path(sys.argv[1])
whole = path.read_bytes()
for _ in range(60):
    changed = bytearray(whole)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(chance.choice((400, len(changed))))] = chance.randrange(256)
    path.write_bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed))))])
    for entry in open_data_set(path.parent, DataSetSettings(format="video", every_frame=3)):
        try:
            entry.load()
            seen["read"] += 1
        except DataError as problem:
            seen["refused"] += path.name in str(problem)
print(seen["read"], seen["refused"])
"""


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mp4", "mp4v"), ("mkv", "FFV1"), ("wmv", "WMV2")])
def test_damaged_clips_are_read_or_refused_without_a_word_on_the_terminal(suffix, codec, tmp_path):
    """In a process of its own, as FFmpeg takes its orders to be quiet when it is first used."""
    path = make_clip(tmp_path / f"a.{suffix}", codec=codec)
    done = subprocess.run([sys.executable, "-c", _FUZZ, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    read, refused = map(int, done.stdout.split())
    assert read
    assert refused


def test_listing_and_importing_load_no_decoder(tmp_path):
    code = "import sys, ustoolkit.data.readers; print(sorted({'cv2', 'pydicom', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
