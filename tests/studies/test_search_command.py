"""`ustoolkit tune` as it is typed, and searches that train for real."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.studies.search_runs import DECAYS, TINY, Trainings, asked, rising
from ustoolkit.cli import main
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run

ROOT = Path(__file__).parents[2]
REAL = (*TINY, "training.epochs=4")
RATES = "training.learning_rate=1e-3..1e-1"


def words(records, out, *more, changes=TINY):
    settings = [word for change in changes for word in ("--set", change)]
    return ["tune", "demo", "--records", str(records.folder), "--out", str(out), "--seed", "0", *settings, *more]


def search(text):
    return "--search", text


@pytest.fixture
def finished(records, tmp_path):
    Trainings(records, lambda recipe: rising(0.5 + recipe.training.weight_decay)).run(asked(records, tmp_path / "out"))
    return tmp_path / "out"


def test_prints_the_best_and_what_to_do_next_or_json(finished, records, capsys):
    assert main(words(records, finished, *search(DECAYS[0]))) == 0
    printed = capsys.readouterr().out
    assert "5 trials in" in printed and "5 finished" in printed
    assert "best: trial 0, validation Dice 0.510 in 8 epochs; the recipe as it is: 0.500" in printed
    assert "  training.weight_decay = 1e-2\n" in printed and "optimistic" in printed
    assert f"ustoolkit train {finished / 'best.toml'} --records {records.folder}" in printed
    assert main(words(records, finished, *search(DECAYS[0]), "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["best"]["settings"] == {"training.weight_decay": "1e-2"} and len(result["trials"]) == 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (search("training.learning_rat=1..2"), "Did you mean 'learning_rate'"),
        (search("training.stop_patience=4..2"), "ends above its beginning"),
        (search("training.epochs=1|2"), "training.epochs is set by --set"),
        (("--splits", "nowhere.json"), "nowhere.json"),
        (("--set", "training.epochz=2"), "Did you mean 'epochs'"),
    ],
)
def test_wrong_wishes_end_with_one_message(records, tmp_path, capsys, more, message):
    assert main(words(records, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "out").exists()


def test_a_search_itself_does_without_tensorflow():
    script = "import sys, ustoolkit.studies.search; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def table(folder):
    """The trials but for the time that they took."""
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "minutes"} for row in csv.DictReader(file)]


def processes_of(folder):
    """Ids of living processes that train in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder / "trials").encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel ends the children of a killed process")
def test_killed_in_the_middle_and_called_again_it_is_the_same_search(records, tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    more = (*search(RATES), *search("model.dropout=0..0.5"), "--trials", "4", "--jobs", "2")
    assert main(words(records, whole, *more, changes=REAL)) == 0
    assert "4 trials in" in capsys.readouterr().out
    best = max(table(whole), key=lambda row: float(row["score"]))
    recipe = load_recipe(whole / "best.toml")
    assert recipe.training.learning_rate == float(best["training.learning_rate"])
    assert Run(whole / best["folder"]).recipe.model_copy(update={"name": "demo-tuned"}) == recipe

    command = [sys.executable, "-m", "ustoolkit", *words(records, cut, *more, changes=REAL)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    # The third is in the middle of its epochs, and the first two are over.
    wait_for(lambda: (cut / "trials" / "0002" / "history.csv").is_file())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes_of(cut), seconds=10)
    began = {number: Run(cut / "trials" / f"{number:04}").state["started"] for number in (0, 1, 2)}
    weights = (cut / "trials" / "0000" / "last.weights.h5").stat().st_mtime_ns
    assert main(words(records, cut, *more, changes=REAL)) == 0
    assert table(cut) == table(whole) and {row["state"] for row in table(cut)} == {"finished"}
    assert {number: Run(cut / "trials" / f"{number:04}").state["started"] for number in began} == began
    assert (cut / "trials" / "0000" / "last.weights.h5").stat().st_mtime_ns == weights


@pytest.mark.slow
def test_a_trial_that_diverges_is_recorded_and_the_best_recipe_trains(records, tmp_path):
    out = tmp_path / "out"
    more = (*search("training.learning_rate=1e-2|1e30"), "--jobs", "2")
    assert main(words(records, out, *more, changes=REAL)) == 0
    good, bad = table(out)
    assert good["state"] == "finished" and bad["state"] == "failed" and "loss is" in bad["reason"]
    train = ["train", str(out / "best.toml"), "--records", str(records.folder), "--out", str(tmp_path / "run")]
    assert main(train) == 0
    assert Run(tmp_path / "run").state["best_validation_dice"] == pytest.approx(float(good["score"]), abs=1e-6)
