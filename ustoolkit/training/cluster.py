"""Which processes train together, and which of them this one is: as TF_CONFIG or SLURM says. No TensorFlow."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ustoolkit.errors import RecipeError

WORKERS = ("chief", "worker")  # tasks with a share of the images; the first of them is the chief
_TASKS = (*WORKERS, "ps", "evaluator")
_FIRST_PORT = 20000  # of SLURM's tasks; each job has ports of its own, so that two on a node do not meet
_PORTS = 10000
_REMEDY = "See docs/scaling.md."


@dataclass(frozen=True)
class Cluster:
    """Processes that train together.

    Attributes:
        addresses: host:port of each task, by type: 'chief', 'worker', 'ps'.
        task_type: of this process.
        task_index: of this process among those of its type, from 0.
    """

    addresses: dict[str, tuple[str, ...]]
    task_type: str
    task_index: int

    @property
    def workers(self) -> int:
        """Processes that have a share of the images."""
        return sum(len(self.addresses.get(name, ())) for name in WORKERS)

    @property
    def worker(self) -> int:
        """The number of this process among them, from 0; the chief, or without one the first worker, is 0."""
        before = len(self.addresses.get("chief", ())) if self.task_type == "worker" else 0
        return before + self.task_index

    @property
    def has_parameter_servers(self) -> bool:
        """Whether there are tasks that hold weights only."""
        return bool(self.addresses.get("ps"))


def find_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster that this process was started in.

    Args:
        environment: variables, such as `os.environ`. `TF_CONFIG` comes before what SLURM sets.
    Returns:
        the cluster; None for a process of its own.
    Raises:
        RecipeError: the variables are not such that processes could find each other.
    """
    if environment.get("TF_CONFIG", "").strip():
        return _of_tf_config(environment["TF_CONFIG"])
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _of_slurm(environment)
    return None


def _of_tf_config(text: str) -> Cluster | None:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as problem:
        raise _wrong("JSON", f"{text[:60]!r} ({problem})", "Mind the quotes.") from None
    cluster = content.get("cluster", {}) if isinstance(content, dict) else content
    if not isinstance(cluster, dict):
        raise _wrong("an object with 'cluster' and 'task'", repr(text[:60]), _REMEDY)
    if not cluster:
        return None
    unknown = sorted(set(cluster) - set(_TASKS))
    if unknown:
        raise _wrong(f"tasks of {', '.join(_TASKS)} in 'cluster'", f"'{unknown[0]}'", "Correct the name.")
    addresses = {name: _addresses(name, listed) for name, listed in cluster.items() if listed}
    addresses.pop("evaluator", None)
    if len(addresses.get("chief", ())) > 1:
        raise _wrong("one chief", f"{len(addresses['chief'])}", "Call the others workers.")
    if not any(name in addresses for name in WORKERS):
        raise _wrong("a chief or workers in 'cluster'", ", ".join(addresses) or "none", "Add them.")
    return Cluster(addresses, *_task(content.get("task"), addresses))


def _addresses(name: str, listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise _wrong(f"a list of addresses under '{name}'", repr(listed)[:60], _REMEDY)
    for address in listed:
        if not re.fullmatch(r".+:\d+", address):
            raise _wrong(f"addresses as host:port under '{name}'", repr(address), "Add the port.")
    if len(set(listed)) < len(listed):
        raise _wrong(f"addresses that differ under '{name}'", repr(listed)[:60], "Give each task its own port.")
    return tuple(listed)


def _task(task: Any, addresses: Mapping[str, tuple[str, ...]]) -> tuple[str, int]:
    if not isinstance(task, dict) or not {"type", "index"} <= set(task):
        raise _wrong("'task' with 'type' and 'index'", repr(task)[:60], "Say which of the tasks this process is.")
    name, index = task["type"], task["index"]
    if not isinstance(name, str) or name not in addresses:
        raise _wrong(f"a task type of {', '.join(addresses)}", repr(name), "Correct it, or list its addresses.")
    try:
        number = int(index)  # shells make texts of numbers
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(index, bool) or not 0 <= number < len(addresses[name]):
        found = f"{index!r}"
        raise _wrong(f"an index from 0 to {len(addresses[name]) - 1} of '{name}'", found, "Count the tasks from 0.")
    return name, number


def _of_slurm(environment: Mapping[str, str]) -> Cluster:
    """Workers alone, on the nodes of a job's step, in the order of their ranks.

    TensorFlow's own resolver sorts the nodes by name, so that of n9 and n10 each looks for itself on the other.
    """
    names = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")
    lacking = [name for name in names if name not in environment]
    if lacking:
        raise RecipeError(f"SLURM: expected {', '.join(names)}, found no {lacking[0]}. Start the tasks with srun.")
    count, nodes, tasks, rank = (environment[name] for name in names)
    job = environment.get("SLURM_JOB_ID", "0")
    try:
        hosts, on_host = expand_nodes(nodes), expand_tasks(tasks)
        # Steps of one job may run side by side too.
        first = _FIRST_PORT + (int(job) * 64 + int(environment.get("SLURM_STEP_ID", "0"))) % _PORTS
        addresses = [
            f"{host}:{first + place}" for host, number in zip(hosts, on_host, strict=True) for place in range(number)
        ]
        index = int(rank)
    except ValueError as problem:
        raise RecipeError(
            f"SLURM: expected nodes and tasks as SLURM lists them, found '{nodes}' with '{tasks}' ({problem}). Set "
            "TF_CONFIG instead."
        ) from None
    if len(addresses) != int(count) or not 0 <= index < len(addresses):
        raise RecipeError(
            f"SLURM: expected {count} tasks, and this one among them, found {len(addresses)} on '{nodes}' and the rank "
            f"{index}. Set TF_CONFIG instead."
        )
    return Cluster({"worker": tuple(addresses)}, "worker", index)


def expand_nodes(nodes: str) -> list[str]:
    """Names of the nodes in a list as SLURM writes it, in its order.

    Args:
        nodes: such as 'gpu[1-2,07],login'.
    Raises:
        ValueError: it is no such list.
    """
    found: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", nodes):
        names = [""]
        for text, ranges in re.findall(r"([^\[\]]+)|\[([^\]]+)\]", part):
            ends = [text] if text else [number for span in ranges.split(",") for number in _numbers(span)]
            names = [name + end for name in names for end in ends]
        found += names
    if not found:
        raise ValueError("no node")
    return found


def _numbers(span: str) -> list[str]:
    first, _, last = span.partition("-")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]


def expand_tasks(tasks: str) -> list[int]:
    """Tasks of each node, of a list as SLURM writes it.

    Args:
        tasks: such as '2(x3),1'.
    Raises:
        ValueError: it is no such list.
    """
    found: list[int] = []
    for part in tasks.split(","):
        matched = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if matched is None:
            raise ValueError(f"'{part}'")
        found += [int(matched[1])] * int(matched[2] or 1)
    return found


def _wrong(expected: str, found: str, remedy: str) -> RecipeError:
    return RecipeError(f"TF_CONFIG: expected {expected}, found {found}. {remedy}")
