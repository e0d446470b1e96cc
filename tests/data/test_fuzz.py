"""Damaged and hostile files: every reader answers mutated folders, and none crashes, hangs or eats the memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ustoolkit.data.readers import READERS

ROOT = Path(__file__).parent.parent.parent


def fuzz(name, count, seed):
    command = [sys.executable, "-m", "tests.data.fuzz", name, str(count), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", READERS)
def test_mutated_files_are_read_or_refused(name):
    outcome = fuzz(name, count=150, seed=1)
    assert outcome["loaded"] > 0
    assert outcome["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_mutated_files_are_read_or_refused(name):
    outcome = fuzz(name, count=3000, seed=2)
    assert outcome["loaded"] > 0
    assert outcome["refused"] > 0
