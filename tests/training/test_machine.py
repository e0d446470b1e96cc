"""What a process may use of a machine, told from files as Linux and containers write them."""

import os

import pytest

from ustoolkit.training.machine import Machine, available_memory, core_limit, find_machine, gpu_memory

GIB = 2**30


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def meminfo(tmp_path):
    """Of a machine with 16 GiB, 12 of them free."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       16777216 kB\nMemFree:  100 kB\nMemAvailable:   12582912 kB\n")
    return path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 12 * GIB),
        ({"memory_dot_max": "max\n", "memory_dot_current": "5\n"}, 12 * GIB),
        ({"memory_dot_max": f"{8 * GIB}\n", "memory_dot_current": f"{3 * GIB}\n"}, 5 * GIB),
        ({"memory_dot_max": f"{2 * GIB}", "memory_dot_current": f"{3 * GIB}"}, 0),
        ({"memory__memory_dot_limit_in_bytes": f"{4 * GIB}", "memory__memory_dot_usage_in_bytes": f"{GIB}"}, 3 * GIB),
        ({"memory__memory_dot_limit_in_bytes": f"{2**63 - 4096}", "memory__memory_dot_usage_in_bytes": "0"}, 12 * GIB),
    ],
)
def test_the_memory_is_what_is_free_within_the_containers_limit(tmp_path, meminfo, files, expected):
    assert available_memory(meminfo, write(tmp_path / "cgroup", **files)) == expected


def test_memory_that_nothing_tells_of_is_taken_as_little(tmp_path):
    assert available_memory(tmp_path / "none", tmp_path / "none") == 4 * GIB


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu_dot_max": "max 100000\n"}, None),
        ({"cpu_dot_max": "250000 100000\n"}, 3),
        ({"cpu_dot_max": "1000 100000\n"}, 1),
        ({"cpu__cpu_dot_cfs_quota_us": "-1\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, None),
        ({"cpu__cpu_dot_cfs_quota_us": "200000\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, 2),
        ({}, None),
        ({"cpu_dot_max": "nonsense"}, None),
    ],
)
def test_the_cores_are_those_that_a_container_may_keep_busy(tmp_path, files, expected):
    found = core_limit(write(tmp_path, **files))
    assert found == expected or (expected is None and found > 10_000)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 81559; echo 24000", 24000 * 2**20),
        ("echo N/A", 8 * GIB),
        ("exit 9", 8 * GIB),
    ],
)
def test_the_memory_of_gpus_is_that_of_the_smallest(tmp_path, monkeypatch, script, expected):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpu_memory(2) == (expected, expected)
    assert gpu_memory(0) == ()


def test_this_machine_has_what_training_needs():
    machine = find_machine()
    assert machine.cores >= 1 and machine.memory_bytes > 0
    assert machine.precision in ("float32", "bfloat16", "float16")
    assert str(Machine(1, 1)) == "1 core" and str(Machine(8, 1, (1, 1))) == "2 GPUs and 8 cores"
