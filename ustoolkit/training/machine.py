"""What a machine has to train with: cores, memory, GPUs, as far as this process may use them."""

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.processes import available_cores

_UNKNOWN_GPU_BYTES = 8 * 2**30  # of a GPU that does not say: what small ones have
_UNKNOWN_BYTES = 4 * 2**30
_QUERY = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """What there is to train with.

    Attributes:
        cores: that this process may use, at least 1.
        memory_bytes: of the main memory that is free, within the limit of the container.
        gpu_bytes: memory of each GPU; none where there is no GPU.
        precision: of the arithmetic that the machine is good at: 'float32', 'bfloat16' or 'float16'.
    """

    cores: int
    memory_bytes: int
    gpu_bytes: tuple[int, ...] = ()
    precision: str = "float32"

    def __str__(self) -> str:
        """In words, for a person."""
        gpus = len(self.gpu_bytes)
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return f"{gpus} GPU{'s' if gpus > 1 else ''} and {cores}" if gpus else cores


def find_machine() -> Machine:
    """Looks at the machine; TensorFlow is imported, and does not begin to compute."""
    import tensorflow as tf

    from ustoolkit.training.precision import chosen_precision

    return Machine(
        cores=min(available_cores(), core_limit()),
        memory_bytes=available_memory(),
        gpu_bytes=gpu_memory(len(tf.config.list_physical_devices("GPU"))),
        precision=chosen_precision("auto"),
    )


def available_memory(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS) -> int:
    """Free main memory in bytes, within the limit that a container sets.

    Args:
        meminfo: Linux's account of the memory.
        cgroups: folder of the limits, of version 2 or 1.
    Returns:
        int; 4 GiB where the system does not tell.
    """
    found = [_free_by_meminfo(meminfo)]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, taken = _number(cgroups / limit), _number(cgroups / used)
        if most is not None:
            found.append(max(0, most - (taken or 0)))
    known = [bytes_free for bytes_free in found if bytes_free is not None]
    return min(known, default=_UNKNOWN_BYTES)


def core_limit(cgroups: Path = _CGROUPS) -> int:
    """How many cores' time a container may take, rounded up; very many where there is no limit."""
    unlimited = 2**31
    try:
        allowed, every = (cgroups / "cpu.max").read_text().split()
        return unlimited if allowed == "max" else max(1, math.ceil(int(allowed) / int(every)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    quota, period = _number(cgroups / "cpu/cpu.cfs_quota_us"), _number(cgroups / "cpu/cpu.cfs_period_us")
    return max(1, math.ceil(quota / period)) if quota and quota > 0 and period else unlimited


def gpu_memory(count: int) -> tuple[int, ...]:
    """Memory of the GPUs in bytes.

    Args:
        count: how many TensorFlow sees.
    Returns:
        as many numbers, all that of the smallest, since `nvidia-smi` does not tell which of them TensorFlow sees;
        8 GiB each where it tells nothing.
    """
    if not count:
        return ()
    try:
        told = subprocess.run(_QUERY, capture_output=True, text=True, timeout=20, check=True).stdout
        smallest = min(int(line) for line in told.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        smallest = _UNKNOWN_GPU_BYTES
    return (smallest,) * count


def _free_by_meminfo(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, such as for the word 'max'."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
