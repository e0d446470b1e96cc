"""Augmentation in processes: the same pixels in any number of them, and nothing left behind however it ends."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ustoolkit.data.augment import Augmenter
from ustoolkit.data.augment_processes import AugmentationProcesses, batch_augmenter, parallel_calls
from ustoolkit.errors import RunError
from ustoolkit.recipe.augmentation import AugmentationSettings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are started on POSIX systems only")

SETTINGS = AugmentationSettings(vertical_flip=0.5)
BATCH, SIDE, CHANNELS = 4, 24, 3
BATCH_BYTES = BATCH * SIDE * SIDE * (CHANNELS + 1)


def batch_of(number, count=BATCH):
    random = np.random.default_rng(number)
    images = random.integers(0, 256, (count, SIDE, SIDE, CHANNELS), np.uint8)
    return images, random.integers(0, 3, images.shape[:3], np.uint8), [f"{number}-{place}" for place in range(count)]


def expected(number, epoch, count=BATCH):
    augmenter = Augmenter(SETTINGS, 7)
    changed = [augmenter(*item, epoch) for item in zip(*batch_of(number, count), strict=True)]
    return tuple(map(np.stack, zip(*changed, strict=True)))


def equal(one, other):
    return all(np.array_equal(first, second) for first, second in zip(one, other, strict=True))


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=30):
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def processes():
    made = AugmentationProcesses(SETTINGS, 7, 2, BATCH_BYTES)
    yield made
    made.close()


def test_pixels_are_those_of_this_process_in_any_number_of_processes(processes):
    alone = batch_augmenter(SETTINGS.model_copy(update={"workers": 1}), 7, 10**6, BATCH_BYTES)
    tasks = [(number, epoch, count) for number in range(4) for epoch in (0, 5) for count in (BATCH, 1)]
    with ThreadPoolExecutor(4) as threads:  # more than there are processes, so that some wait
        found = list(threads.map(lambda task: processes(*batch_of(task[0], task[2]), task[1]), tasks))
    assert len(processes.process_ids) == 2
    for result, task in zip(found, tasks, strict=True):
        assert equal(result, expected(*task))
        assert equal(result, alone(*batch_of(task[0], task[2]), task[1]))


def test_no_more_processes_are_started_than_there_is_work_for(processes):
    assert processes.process_ids == []
    for number in range(3):
        processes(*batch_of(number), 0)
    assert len(processes.process_ids) == 1


def test_results_do_not_change_when_the_process_goes_on(processes):
    first = processes(*batch_of(0), 0)
    processes(*batch_of(1), 0)
    assert equal(first, expected(0, 0))


def test_a_process_that_is_killed_is_replaced(processes):
    processes(*batch_of(0), 0)
    (process,) = processes.process_ids
    os.kill(process, signal.SIGKILL)
    assert equal(processes(*batch_of(1), 3), expected(1, 3))
    assert len(processes.process_ids) == 1
    assert process not in processes.process_ids


def test_processes_that_are_killed_at_work_do_not_hang_nor_spoil_a_batch(processes):
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda number: processes(*batch_of(number), 1), range(2)))  # they are at work, not starting
        waiting = [threads.submit(processes, *batch_of(number), 1) for number in range(40)]
        for _ in range(2):
            wait_for(lambda: processes.process_ids)
            os.kill(processes.process_ids[0], signal.SIGKILL)
            time.sleep(0.02)
        found = [item.result(timeout=60) for item in waiting]
    assert all(equal(result, expected(number, 1)) for number, result in enumerate(found))


def test_processes_that_cannot_live_are_an_error(processes, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match=r"ended by the system, 3 times.*augmentation.workers=1"):
        processes(*batch_of(0), 0)


def test_what_goes_wrong_in_a_process_is_raised_here_and_the_process_goes_on(processes):
    images, masks, names = batch_of(0)
    with pytest.raises(RuntimeError, match=r"in a process that changes images:\n(.|\n)*ValueError: zip"):
        processes(images, masks, names[:-1], 0)
    (process,) = processes.process_ids
    assert equal(processes(*batch_of(1), 0), expected(1, 0))
    assert processes.process_ids == [process]


def test_closed_processes_are_gone_and_take_no_more(processes):
    processes(*batch_of(0), 0)
    started = processes.process_ids
    processes.close()
    assert not any(map(is_alive, started))
    with pytest.raises(RunError, match="have been ended"):
        processes(*batch_of(0), 0)


def test_processes_end_with_the_object():
    made = AugmentationProcesses(SETTINGS, 7, 1, BATCH_BYTES)
    made(*batch_of(0), 0)
    (process,) = made.process_ids
    del made
    assert wait_for(lambda: not is_alive(process))


SCRIPT = """
import signal, sys, numpy as np
from ustoolkit.data.augment_processes import AugmentationProcesses
from ustoolkit.recipe.augmentation import AugmentationSettings
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
print("started", flush=True)
made = AugmentationProcesses(AugmentationSettings(), 0, 1, 1 << 20)
images = np.zeros((4, 16, 16, 1), np.uint8)
made(images, images[..., 0], "abcd", 0)
print(made.process_ids[0], "tensorflow" in sys.modules, flush=True)
{ending}
"""


def script(tmp_path, ending):
    """A script as a user writes it, without a guard, which a process that imported it would run again."""
    (tmp_path / "script.py").write_text(SCRIPT.format(ending=ending))
    child = subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "started\n"
    process, has_tensorflow = child.stdout.readline().split()
    assert has_tensorflow == "False"
    return child, int(process)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_when_the_one_that_began_them_is_ended(tmp_path, end):
    child, process = script(tmp_path, "while True: made(images, images[..., 0], 'abcd', 0)")
    assert is_alive(process)
    assert "tensorflow" not in Path(f"/proc/{process}/maps").read_text()
    child.send_signal(end)
    child.wait(30)
    assert wait_for(lambda: not is_alive(process))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("ending", ["", "raise ValueError"])
def test_processes_end_with_a_script_that_does_or_fails(tmp_path, ending):
    child, process = script(tmp_path, ending)
    assert child.stdout.read() == ""
    assert child.wait(30) == (1 if ending else 0)
    assert wait_for(lambda: not is_alive(process))


def test_little_work_is_done_in_this_process():
    for settings, images, calls in (({}, 100, 1), ({"workers": 1}, 10**6, 1), ({"workers": 3}, 100, 3)):
        assert parallel_calls(batch_augmenter(AugmentationSettings(**settings), 0, images, BATCH_BYTES)) == calls


def test_those_that_change_alike_share_their_processes():
    settings = SETTINGS.model_copy(update={"workers": 2})
    one, same, other = (batch_augmenter(settings, seed, 10**6, BATCH_BYTES) for seed in (7, 7, 8))
    assert one is same
    assert one is not other
    one.close()
    assert batch_augmenter(settings, 7, 10**6, BATCH_BYTES) is not one
