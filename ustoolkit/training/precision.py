"""What arithmetic a machine is good at, and how its cores are shared among the branches of a step."""

from pathlib import Path

import tensorflow as tf

from ustoolkit.processes import available_cores
from ustoolkit.recipe.training import TrainingSettings

_LEAST_CAPABILITY = (7, 0)  # of GPUs: from here on float16 is multiplied by units of its own
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")
_SPARE_THREADS = 2  # wait for images while the branches compute


def chosen_precision(setting: str, scaled: bool = True) -> str:
    """The precision that a setting stands for on this machine.

    Args:
        setting: 'auto' or a precision.
        scaled: whether the loss can be scaled, as float16 needs.
    Returns:
        'float16' on GPUs that all multiply it faster, 'bfloat16' on a CPU that has instructions for it, else 'float32';
        any other setting itself.
    """
    if setting != "auto":
        return setting
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and scaled:
        found = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
        return "float16" if min(found) >= _LEAST_CAPABILITY else "float32"
    return "bfloat16" if not gpus and _cpu_has(_CPU_FLAGS) else "float32"


def share_cores(settings: TrainingSettings) -> None:
    """Gives each branch of a step one core, where TensorFlow has not begun to compute; else its threads stay."""
    if settings.branches == 1 or tf.config.list_physical_devices("GPU"):
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(available_cores() + _SPARE_THREADS)
    except RuntimeError:
        return


def _cpu_has(flags: tuple[str, ...]) -> bool:
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in described.split() for flag in flags)
