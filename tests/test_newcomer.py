"""What CONTRIBUTING says under "A newcomer adds…", done step by step in a copy of the house.

Each walk is taken once whole, and the new thing is used; then once without each of its steps, and the house has to say
which one is missing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import newcomer

ROOT = Path(__file__).parent.parent
COPIED = ("ustoolkit", "tests", "tfrecords", "docs/reference", "setup.cfg", "Makefile")
REMAINS = shutil.ignore_patterns("__pycache__", "*.pyc")
WALKS = {walk.name: walk for walk in (newcomer.FORMAT, newcomer.NETWORK, newcomer.LOSS, newcomer.METRIC)}
QUICK = {"format", "metric"}  # which need no TensorFlow
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in WALKS]
LEFT_OUT = [(name, step) for name, walk in WALKS.items() for step in walk.told]


@pytest.fixture
def house(tmp_path):
    """A copy of the house to change."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=REMAINS)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(house, *command):
    """Runs Python in the copy, with the copy's modules."""
    environment = {**os.environ, "PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.run(
        [sys.executable, *command], cwd=house, env=environment, capture_output=True, text=True, check=False
    )


def checked(house, walk):
    """The house's own tests of what was added."""
    return run(house, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", walk.picked, *walk.tests)


def test_the_copy_is_what_runs(house):
    found = run(house, "-c", "import ustoolkit; print(ustoolkit.__file__)")
    assert Path(found.stdout.strip()).is_relative_to(house)


@pytest.mark.parametrize("name", EACH)
def test_whoever_takes_every_step_has_it_working(house, name):
    walk = WALKS[name]
    for take in walk.steps.values():
        take(house)
    tested = checked(house, walk)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert walk.new in tested.stdout, "no test looked at what is new"
    program, printed = walk.use
    used = run(house, "-c", program)
    assert used.returncode == 0, used.stderr
    assert used.stdout.strip() == printed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "left_out"), LEFT_OUT)
def test_whoever_leaves_a_step_out_is_told_which(house, name, left_out):
    walk = WALKS[name]
    for step, take in walk.steps.items():
        if step != left_out:
            take(house)
    tested = checked(house, walk)
    assert tested.returncode != 0, f"nothing is said without the step '{left_out}'"
    assert walk.told[left_out] in tested.stdout + tested.stderr, tested.stdout[-3000:]


def test_contributing_names_every_step():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    for walk in WALKS.values():
        for step in walk.steps:
            assert step in text, f"CONTRIBUTING.md: the walk '{walk.name}' does not name '{step}'"
