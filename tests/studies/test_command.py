"""`ustoolkit study` as it is typed."""

import json
import subprocess
import sys

import pytest

from tests.studies.runs import finish_all, options, toy_study
from ustoolkit import studies
from ustoolkit.cli import main


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(studies.STUDIES, "toy", toy_study())


def call(records, out, *words):
    return main(["study", "toy", "--records", str(records.folder), "--out", str(out), "--seeds", "2", *words])


@pytest.fixture
def finished(toy, records, tmp_path):
    out = tmp_path / "study"
    finish_all(toy_study(), options(records, out), records, lambda arm, seed, name: 0.7 + 0.1 * (arm == "short"))
    return out


def test_prints_the_tables(finished, records, capsys):
    assert call(records, finished) == 0
    printed = capsys.readouterr().out
    assert "## Length of training\n" in printed and "+0.100 (+0.100 to +0.100) | better |" in printed
    assert "by size of the lesion" in printed


def test_prints_json(finished, records, capsys):
    assert call(records, finished, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tables"]["lengths"][1]["difference"] == pytest.approx(0.1)
    assert result["runs"]["short/seed1"]["status"] == "finished"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "shrot"], "Did you mean 'short'"),
        (["--set", "training.epochs=9"], "sets training.epochs itself"),
        (["--set", "data.channels=3"], "sets data.channels itself"),
        (["--seeds", "0"], "expected 1 to"),
        (["--splits", "nowhere.json"], "nowhere.json"),
        (["--pretraining-records", "elsewhere"], "elsewhere"),
    ],
)
def test_wrong_wishes_end_with_one_message(toy, records, tmp_path, capsys, words, message):
    assert call(records, tmp_path / "study", *words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "study").exists()


def test_an_unknown_study_is_refused_with_the_nearest(records, tmp_path, capsys):
    words = ["study", "lihgt-unet", "--records", str(records.folder), "--out", str(tmp_path / "out")]
    assert main(words) == 2 and "Did you mean 'light-unet'" in capsys.readouterr().err


def test_a_study_itself_does_without_tensorflow():
    script = "import sys, ustoolkit.studies.runner; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
