"""Training on several devices and in several processes gives the weights of one, also when a process dies."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY
from tests.training.several import TIMEOUT_SECONDS, environments, run_all, start
from ustoolkit.models.load import load_model
from ustoolkit.run import Run

pytestmark = pytest.mark.slow

SCRIPT = ["-m", "tests.training.train_worker"]
# Without what amplifies rounding, and with what several readers and devices could disturb.
EXACT = (
    *TINY,
    "training.optimizer=sgd",
    "training.weight_decay=0.01",
    "training.epochs=2",
    "model.normalization=none",
    "model.dropout=0.0",
    "data.readers=2",
    "loss.terms={ cross_entropy = 1.0, dice = 0.5 }",
    "loss.class_weights=balanced",
)


def weights_of(folder):
    run = Run(folder)
    model = load_model(run)
    model.load_weights(run.last_weights)
    return model.get_weights()


def trained(records, out, strategy, variables, devices=1, settings=EXACT):
    """What each process says in the end; the run is in `out`."""
    arguments = [str(records.folder), str(out), str(devices), *settings, f"training.strategy={strategy}"]
    printed = run_all([*SCRIPT, *arguments], variables, out.with_name(f"{out.name}-logs"))
    return [json.loads(text.splitlines()[-1]) for text in printed]


@pytest.fixture(scope="module")
def one(records, tmp_path_factory):
    """Trained by one process on one device: its folder, and what it said."""
    out = tmp_path_factory.mktemp("one") / "run"
    return out, trained(records, out, "one", [{}])[0]


def test_two_devices_train_as_one(records, tmp_path, one):
    (found,) = trained(records, tmp_path / "run", "mirrored", [{}], devices=2)
    assert found["replicas"] == 2 and found["said"] == ["4 images a step: 2 devices × 2"]
    for expected, weights in zip(weights_of(one[0]), weights_of(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["history"], one[1]["history"], atol=2e-6)


def test_statistics_are_those_of_all_devices_where_asked(records, tmp_path):
    settings = (*EXACT, "model.normalization=batch", "training.epochs=1")
    (one,) = trained(records, tmp_path / "one", "one", [{}], settings=settings)
    found = {}
    for asked in ("true", "false"):
        changes = (*settings, f"training.synchronized_normalization={asked}")
        (said,) = trained(records, tmp_path / asked, "mirrored", [{}], devices=2, settings=changes)
        found[asked] = abs(said["history"][0][0] - one["history"][0][0])
    assert found["true"] < 1e-5 < 1e-3 < found["false"]


def test_two_processes_train_as_one(records, tmp_path, one):
    found = trained(records, tmp_path / "run", "auto", environments(worker=2))
    assert [each["replicas"] for each in found] == [2, 2]
    assert found[0]["said"] == ["4 images a step: 2 devices on 2 workers × 2"] and found[1]["said"] == []
    for expected, weights in zip(weights_of(one[0]), weights_of(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-5)
    for each in found:
        np.testing.assert_allclose(each["history"], one[1]["history"], atol=2e-6)
    # The second worker's copy of the run is gone.
    assert found[1]["folder"] != str(tmp_path / "run") and not found[1]["left"]
    assert Run(tmp_path / "run").state["status"] == "finished"


def test_two_processes_take_adams_first_step_as_one(records, tmp_path):
    adam = (*EXACT, "training.optimizer=adam", "training.epochs=1", "training.batch_size=14")
    outs = [tmp_path / "one", tmp_path / "two"]
    trained(records, outs[0], "one", [{}], settings=adam)
    trained(records, outs[1], "multi-worker", environments(worker=2), settings=adam)
    for expected, weights in zip(*map(weights_of, outs), strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-4)


def test_after_a_killed_worker_the_job_goes_on_to_the_same_weights(records, tmp_path):
    settings = (*EXACT, "training.epochs=8", "training.stop_patience=50")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    trained(records, whole, "one", [{}], settings=settings)
    arguments = [str(records.folder), str(killed), "1", *settings, "training.strategy=multi-worker"]
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    pair = [start([*SCRIPT, *arguments], each, log) for each, log in zip(environments(worker=2), logs, strict=True)]
    try:
        _wait_for_epochs(killed, 2)
        os.kill(pair[1].pid, signal.SIGKILL)
        assert pair[0].wait(TIMEOUT_SECONDS) != 0  # it does not wait for ever for one that is dead
        assert "another process of the cluster is gone" in logs[0].read_text(errors="replace")
    finally:
        for process in pair:
            process.kill()
    assert 2 <= len(Run(killed).read_history()) < 8
    trained(records, killed, "multi-worker", environments(worker=2), settings=settings)
    assert [row["epoch"] for row in Run(killed).read_history()] == list(range(1, 9))
    for expected, weights in zip(weights_of(whole), weights_of(killed), strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-5)


def test_parameter_servers_train_and_leave_a_whole_run(records, tmp_path):
    settings = [setting for setting in EXACT if "readers" not in setting] + ["training.epochs=3"]
    variables = environments(chief=1, worker=2, ps=1)
    arguments = [str(records.folder), str(tmp_path / "run"), "1", *settings, "training.strategy=parameter-server"]
    logs = [tmp_path / f"{number}.log" for number in range(4)]
    served = [start([*SCRIPT, *arguments], each, log) for each, log in zip(variables[1:], logs[1:], strict=True)]
    try:
        chief = start([*SCRIPT, *arguments], variables[0], logs[0])
        assert chief.wait(TIMEOUT_SECONDS) == 0, logs[0].read_text()[-2500:]
        assert [process.poll() for process in served] == [None] * 3  # they serve until they are ended
    finally:
        for process in served:
            process.kill()
    run = Run(tmp_path / "run")
    history = run.read_history()
    assert run.state["status"] == "finished" and len(history) == 3
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(np.isfinite(weights).all() for weights in weights_of(run.folder))


def _wait_for_epochs(folder: Path, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if (folder / "history.csv").is_file() and len(Run(folder).read_history()) >= count:
            return
        time.sleep(0.1)
    pytest.fail(f"no {count} epochs in {TIMEOUT_SECONDS} seconds")
