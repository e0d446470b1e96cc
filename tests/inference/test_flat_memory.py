"""Folders are segmented image by image: ten times as many need no more memory, whatever segments them."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ustoolkit.export.exports import ExportSettings, export_runs
from ustoolkit.export.formats import FORMATS

# The second folder is as the first, ten times; what the process holds at most must not grow with it.
_SCRIPT = """
import resource, sys
from pathlib import Path
from ustoolkit.inference.predict import predict_paths
from ustoolkit.inference.segmenter import load_segmenter

segmenter, folder, out = load_segmenter(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
peaks = []
for name in ("few", "few", "many"):
    predictions = predict_paths(segmenter, [folder / name], out / str(len(peaks)))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(len(predictions.written), *peaks)
"""
_MOST_MB = 40  # far less than the pixels of the second folder, some 300 MB with its probabilities


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """30 and 300 images of all sizes up to 700 × 500."""
    root = tmp_path_factory.mktemp("sizes")
    generator = np.random.default_rng(0)
    for name, count in (("few", 30), ("many", 300)):
        (root / name).mkdir()
        for number in range(count):
            width, height = 400 + 10 * (number % 30), 350 + 5 * (number % 30)
            pixels = generator.integers(0, 255, (height, width), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03}.png", compress_level=0)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("form", ["run", "saved_model", "keras", "litert-float32"])
def test_memory_does_not_grow_with_the_folder(trained_run, records, folders, tmp_path, form):
    model = trained_run.folder
    if form != "run":
        settings = ExportSettings(formats=(form,), name="model", largest_dice_loss=1)
        folder = export_runs([trained_run], tmp_path / "export", settings, records=records)
        model = folder if form == "saved_model" else folder / FORMATS[form].file
    command = [sys.executable, "-c", _SCRIPT, str(model), str(folders), str(tmp_path / "out")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    written, _, before, after = finished.stdout.split()
    assert written == "300"
    assert float(after) - float(before) < _MOST_MB, finished.stdout
