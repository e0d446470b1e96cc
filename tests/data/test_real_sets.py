"""Real data sets are read with nothing but their path, and what is planted into one is found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ustoolkit.data.readers import describe, open_data_set
from ustoolkit.recipe import DataSetSettings

ROOT = Path(__file__).parent.parent.parent
SETS = {
    "busbra": ("table", 1127),
    "natural": ("mask-folder", 1500),
    "chest_xray": ("mask-folder", 200),
    "dicom": ("dicom", 11),
    "via": ("via", 8),
    "labelme": ("labelme", 2),
}


@pytest.mark.data
@pytest.mark.parametrize("name", SETS)
def test_a_real_set_is_read_with_its_path_alone(real_data, name):
    form, count = SETS[name]
    settings = describe(real_data / name, DataSetSettings())
    entries = open_data_set(real_data / name, settings)
    assert (settings.format, len(entries)) == (form, count)
    for entry in entries[:: max(1, count // 20)]:
        sample = entry.load()
        assert sample.patient_id
        assert form == "dicom" or sample.mask.any()


@pytest.mark.data
@pytest.mark.slow
def test_planted_mistakes_are_found_and_clean_images_left_alone(real_data, tmp_path):
    planted, audited = tmp_path / "planted", tmp_path / "audited"
    script = str(ROOT / "benchmarks" / "planted.py")
    make = [script, "--data", str(real_data / "busbra"), "--out", str(planted), "--seed", "777"]
    subprocess.run([sys.executable, *make], check=True, capture_output=True)
    inspect = ["-m", "ustoolkit", "inspect", str(planted), "--out", str(audited), "--workers", "2"]
    subprocess.run([sys.executable, *inspect], check=True, capture_output=True)
    check = [script, "--out", str(planted), "--check", str(audited / "audit.json")]
    printed = subprocess.run([sys.executable, *check], capture_output=True, text=True, check=False).stdout
    recalls = {kind.strip(): float(share) for kind, share in re.findall(r"^([a-z -]+?) +([\d.]+)%", printed, re.M)}
    assert len(recalls) == 7
    assert min(recalls.values()) >= 95, printed
    false = [int(count) / int(total) for count, total in re.findall(r"^false.*: (\d+) of (\d+)", printed, re.M)]
    assert max(false, default=0) <= 0.01, printed
