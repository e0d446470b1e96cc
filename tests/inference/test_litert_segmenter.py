"""The runtime's side of LiteRT files: what is refused, and how it behaves with many images."""

import io
import json
import random
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from ustoolkit.data.resize import to_channels
from ustoolkit.errors import RunError
from ustoolkit.export.litert import LiteRtWriter
from ustoolkit.inference.graph import segmentation_graph
from ustoolkit.inference.litert_segmenter import LiteRtSegmenter, in_channels, read_metadata
from ustoolkit.inference.segmenter import load_segmenter

IMAGES = [
    np.random.default_rng(number).integers(0, 256, size, np.uint8)
    for number, size in enumerate([(40, 32, 1), (20, 50, 3), (64, 64, 1), (40, 32, 3), (20, 50, 1)])
]


@pytest.fixture(scope="module")
def path(trained_run, tmp_path_factory):
    graph = segmentation_graph([trained_run])
    metadata = {"classes": trained_run.classes, "inference": graph.inference.model_dump(mode="json")}
    writer = LiteRtWriter("float32")
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    path.write_bytes(writer.pack(writer.convert(graph), metadata, "# Card\n"))
    return path


def test_it_has_the_face_of_a_segmenter(path, trained_run):
    segmenter = load_segmenter(path)
    assert isinstance(segmenter, LiteRtSegmenter)
    assert segmenter.classes == trained_run.classes and segmenter.inference == trained_run.inference
    assert segmenter.splits_of("any") is None
    assert [each.shape for each in segmenter.probabilities(IMAGES)] == [(*image.shape[:2], 1) for image in IMAGES]


def test_images_do_not_change_each_other(path):
    """Interpreters are used again for other sizes."""
    together = list(LiteRtSegmenter(path).probabilities(IMAGES * 2))
    for image, found, again in zip(IMAGES, together, together[len(IMAGES) :], strict=False):
        alone = next(LiteRtSegmenter(path, threads=1).probabilities([image]))
        np.testing.assert_array_equal(found, alone)
        np.testing.assert_array_equal(again, alone)


def test_threads_may_share_it(path):
    segmenter, found = LiteRtSegmenter(path), {}
    expected = list(segmenter.probabilities(IMAGES))

    def segment(number):
        found[number] = list(segmenter.probabilities(IMAGES[number:] + IMAGES[:number]))

    threads = [threading.Thread(target=segment, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, results in found.items():
        for image, result in enumerate(results):
            np.testing.assert_array_equal(result, expected[(number + image) % len(IMAGES)])


def test_channels_are_those_that_training_sees():
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    np.testing.assert_array_equal(in_channels(colours, 1), to_channels(tf.constant(colours), 1))
    grey = colours[..., :1]
    np.testing.assert_array_equal(in_channels(grey, 3), np.concatenate([grey] * 3, axis=-1))
    assert in_channels(grey, 1) is grey and in_channels(colours, 3) is colours


def test_tensorflow_is_not_needed(path):
    script = (
        "import sys, numpy as np\n"
        "from ustoolkit.inference.litert_segmenter import LiteRtSegmenter\n"
        "found = next(LiteRtSegmenter(sys.argv[1]).probabilities([np.zeros((9, 7, 1), np.uint8)]))\n"
        "print(found.shape, 'tensorflow' in sys.modules, 'tf_keras' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "(9, 7, 1) False False"


def test_what_is_no_file_of_ours_is_refused(path, tmp_path):
    content = path.read_bytes()
    start = content.index(b"PK\x03\x04")
    cases = {
        "empty": b"",
        "text": b"hello",
        "model without a description": content[:start],
        "description without a model": content[start:],
        "cut short": content[: len(content) // 2],
        "without its end": content[:-1],
        "not JSON": packed(content[:start], b"{"),
        "a list": packed(content[:start], b"[1]"),
        "nested without end": packed(content[:start], b"[" * 100_000),
        "not a checksum": packed(content[:start], b'{"model_sha256": 5}'),
        "no model": packed(content[:start], b"{}", name="other.json"),
        "too large": packed(content[:start], b" " * 2**23 + b"{}"),
    }
    for name, damaged in cases.items():
        file = tmp_path / f"{name}.tflite"
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=r"damaged or another"):
            LiteRtSegmenter(file)
    with pytest.raises(RunError, match="no such file"):
        read_metadata(tmp_path / "nothing.tflite")
    with pytest.raises(RunError, match="damaged or another"):
        LiteRtSegmenter(tmp_path)


def test_a_description_of_another_model_is_refused(path, tmp_path):
    content = path.read_bytes()
    model, metadata = content[: content.index(b"PK\x03\x04")], read_metadata(path)
    file = tmp_path / "model.tflite"
    changes = [{"classes": ["a", "b", "c"]}, {"inference": {"threshhold": 0.5}}, {"inference": 5}, {"classes": None}]
    for change in changes:
        file.write_bytes(packed(model, json.dumps({**metadata, **change}).encode()))
        with pytest.raises(RunError, match="Export the run again"):
            LiteRtSegmenter(file)


def test_mutated_files_are_refused_or_the_same(path, tmp_path):
    """In a process of its own, which must live to its end."""
    content = path.read_bytes()
    rng = random.Random(0)
    for number in range(300):
        mutated = bytearray(content)
        # The description is small beside the model, and every other mutation is of it.
        start = 0 if number % 2 else content.index(b"PK\x03\x04")
        for _ in range(rng.choice([1, 1, 3, 20])):
            mutated[rng.randrange(start, len(mutated))] = rng.randrange(256)
        if number % 10 == 0:
            del mutated[rng.randrange(len(mutated)) :]
        (tmp_path / f"{number:03}.tflite").write_bytes(mutated)
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from ustoolkit.errors import RunError\n"
        "from ustoolkit.inference.litert_segmenter import LiteRtSegmenter\n"
        "image = np.arange(63, dtype=np.uint8).reshape(9, 7, 1)\n"
        "expected = next(LiteRtSegmenter(sys.argv[1]).probabilities([image]))\n"
        "refused = 0\n"
        "for file in sorted(Path(sys.argv[2]).iterdir()):\n"
        "    try:\n"
        "        found = next(LiteRtSegmenter(file).probabilities([image]))\n"
        "        if not np.array_equal(found, expected): print('other', file)\n"
        "    except RunError:\n"
        "        refused += 1\n"
        "print('refused', refused)\n"
    )
    found = subprocess.run([sys.executable, "-c", script, path, tmp_path], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "other" not in found.stdout
    assert int(found.stdout.split()[-1]) > 200


def packed(model, metadata, name="metadata.json"):
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, metadata)
    return file.getvalue()
