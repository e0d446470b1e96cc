"""How long a grouped 3 × 3 convolution takes, forward and backward, beside Keras's and PyTorch's; our ways to do it.

python benchmarks/grouped.py --quick

The layer has as many filters as channels, 256 on a batch of 4 × 64 × 64, in float32; timed are its outputs and the
gradients of inputs, kernel and bias. TensorFlow and PyTorch run in processes of their own; all layers take turns.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from turns import (
    PEER,
    Side,
    Task,
    Times,
    machine,
    number,
    print_machine,
    require_pytorch,
    take_turns,
    target_line,
)

TENSORFLOW = "TensorFlow"
# Keras's layer takes seconds to minutes, more for more groups: at so many groups it is measured, in so many rounds.
KERAS_ROUNDS = {8: 2, 32: 1}
KERAS_TARGETS = {8: 50.0, 32: 200.0}
BLOCKS = (8, 16, 32, 64)
MOST_SPLITS = 64  # more make graphs of many hundreds of convolutions
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Shape:
    """What the layer works on.

    Attributes:
        batch, side, channels: of the inputs, (batch, side, side, channels).
    """

    batch: int
    side: int
    channels: int

    def __str__(self) -> str:
        return f"{self.batch} × {self.side} × {self.side} × {self.channels}"


def ours(groups: int, **how: object) -> Task:
    """Our layer, in the lowering it chooses by itself or in another."""
    return Task(TENSORFLOW, " ".join(["layer=ours", f"groups={groups}", *(f"{key}={how[key]}" for key in how)]))


def keras(groups: int, rounds: int = 0) -> Task:
    """Keras's `Conv2D`; `rounds` is how many have to do, 0 for all."""
    return Task(TENSORFLOW, f"layer=keras groups={groups}", rounds)


def pytorch(groups: int, layout: str = "channels_last") -> Task:
    """PyTorch's `Conv2d`."""
    return Task(PEER, f"layout={layout} groups={groups}")


def write_arrays(path: Path, shape: Shape, groups: Sequence[int]) -> None:
    """Draws inputs, the gradient of the outputs, bias, and a kernel for each number of groups."""
    draw = np.random.default_rng(0).standard_normal
    image = (shape.batch, shape.side, shape.side, shape.channels)
    arrays = {"inputs": draw(image), "outer": draw(image), "bias": draw(shape.channels)}
    arrays |= {f"kernel_{count}": draw((3, 3, shape.channels // count, shape.channels)) for count in groups}
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})


def check(folder: Path, sides: Sequence[Side], tasks: Sequence[Task]) -> None:
    """Refuses to compare layers of the same number of groups that do not give the same.

    Args:
        folder: where the sides leave what the layers give.
        sides: by which the tasks are done.
        tasks: the others of a number of groups are compared with its first.
    Raises:
        SystemExit: outputs or a gradient differ by more than 0.001 of the largest value.
    """
    by_name = {side.name: side for side in sides}
    first: dict[int, dict[str, np.ndarray]] = {}
    for task in dict.fromkeys(tasks):
        path = folder / by_name[task.side].ask(describe=task.name)["file"]
        with np.load(path) as found:
            given = {name: found[name] for name in found}
        path.unlink()
        expected = first.setdefault(_groups(task), given)
        for name, values in given.items():
            difference = float(np.abs(values - expected[name]).max() / np.abs(expected[name]).max())
            if not difference < _TOLERANCE:
                raise SystemExit(
                    f"{task.side}, {task.name}: {'outputs' if name == 'outputs' else f'the gradient of {name}'} differ "
                    f"by {difference:.2g} of the largest value from the first layer's, more than {_TOLERANCE:g}."
                )


def peer_tasks(groups: Sequence[int], slow: dict[int, Task]) -> list[Task]:
    """The layers of the first table, of each number of groups ours first.

    Args:
        groups: numbers of groups.
        slow: Keras's layers, by number of groups.
    """
    tasks = [keras(1), pytorch(1, "default"), pytorch(1)]
    for count in groups:
        tasks += [ours(count), pytorch(count), pytorch(count, "default")]
        tasks += [slow[count]] if count in slow else []
    return tasks


def peer_lines(times: Times, shape: Shape, groups: Sequence[int], slow: dict[int, Task]) -> list[str]:
    """Our layer beside Keras's and PyTorch's."""
    lines = [
        "| groups (channels a group) | ours | Keras, Conv2D(groups) | ours is so many times as fast, median (range) "
        "| PyTorch as it comes | so many times | PyTorch channels_last | so many times |",
        "|---|---|---|---|---|---|---|---|",
    ]
    dense = [_duration(times, task) for task in (keras(1), pytorch(1, "default"), pytorch(1))]
    lines.append(f"| 1 ({shape.channels}), dense | | {dense[0]} | | {dense[1]} | | {dense[2]} | |")
    for count in groups:
        own, peers = ours(count), [slow.get(count), pytorch(count, "default"), pytorch(count)]
        beside = [f"{_duration(times, peer)} | {times.shown(own, peer)}" if peer else "|" for peer in peers]
        lines.append(f"| {count} ({shape.channels // count}) | {_duration(times, own)} | {' | '.join(beside)} |")
    return lines


def lowerings(groups: int, channels: int) -> dict[str, Task]:
    """Our ways to do the layer, by the column that shows them."""
    size = channels // groups
    ways = {"native, forward only": ours(groups, lowering="native", **{"pass": "forward"})}
    if groups <= MOST_SPLITS:
        ways["split"] = ours(groups, lowering="split")
    for block in BLOCKS:
        # A block is never narrower than a group, so several widths may come to the same, which is measured once.
        width = min(max(block, size), channels)
        ways[f"blocks of {block}"] = ours(groups, lowering="blocks", block=width)
    if size == 1:
        ways["depthwise"] = ours(groups, lowering="depthwise")
    return ways


def lowering_lines(times: Times, shape: Shape, groups: Sequence[int]) -> list[str]:
    """Our ways beside each other; the choice is the layer's own, measured with the first table's."""
    columns = ["native, forward only", "split", *(f"blocks of {block}" for block in BLOCKS), "depthwise"]
    lines = [
        f"| groups (channels a group) | chosen | {' | '.join(columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for count in groups:
        ways = lowerings(count, shape.channels)
        cells = [_duration(times, ways[column]) if column in ways else "" for column in columns]
        lines.append(f"| {count} ({shape.channels // count}) | {_duration(times, ours(count))} | {' | '.join(cells)} |")
    return lines


def pairs(shape: Shape) -> list[tuple[int, int, Task, Task]]:
    """Groups, filters of a 1 × 1 convolution that follows, and the tasks: both merged into one, one after the other."""
    rows = []
    for filters in (shape.channels // 4, shape.channels // 2):
        for groups in (2, 4, 8, 16):
            merged = ours(groups, filters=filters, lowering="merged")
            rows.append((groups, filters, merged, ours(groups, filters=filters, lowering="blocks")))
    return rows


def pair_lines(times: Times, shape: Shape) -> list[str]:
    """Merged beside one after the other."""
    lines = [
        "| groups (channels a group) | filters that follow | merged | one after the other "
        "| merged is so many times as fast, median (range) |",
        "|---|---|---|---|---|",
    ]
    for groups, filters, merged, apart in pairs(shape):
        durations = f"{_duration(times, merged)} | {_duration(times, apart)} | {times.shown(merged, apart)}"
        lines.append(f"| {groups} ({shape.channels // groups}) | {filters} | {durations} |")
    return lines


def target_lines(times: Times, groups: Sequence[int], slow: dict[int, Task]) -> list[str]:
    """What was aimed at, and whether it is reached."""
    lines = [
        target_line(f"{count} groups beside Keras", needed, times.times_as_fast(ours(count), slow[count]))
        for count, needed in KERAS_TARGETS.items()
        if count in slow
    ]
    return lines + [
        target_line(
            f"{count} groups beside PyTorch channels_last", 1.0, times.times_as_fast(ours(count), pytorch(count))
        )
        for count in groups
    ]


def main() -> None:
    """Prints the machine and the tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 × 16 × 16 × 64 and one round, to try it")
    parser.add_argument("--full", action="store_true", help="Keras's layer at all numbers of groups: many minutes")
    parser.add_argument("--channels", type=int, help="of the layer, a power of 2 (default 256)")
    parser.add_argument("--batch", type=int, help="images (default 4)")
    parser.add_argument("--size", type=int, help="height and width, pixels (default 64)")
    parser.add_argument("--rounds", type=int, help="turns that each layer takes (default 5)")
    parser.add_argument("--seconds", type=float, help="of each turn, at least one step (default 0.4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    arguments = parser.parse_args()
    require_pytorch()
    batch, side, channels, rounds, seconds = (2, 16, 64, 1, 0.1) if arguments.quick else (4, 64, 256, 5, 0.4)
    channels = arguments.channels or channels
    if channels < 32 or channels & (channels - 1):
        parser.error(f"--channels: expected a power of 2 of at least 32, found {channels}")
    shape = Shape(arguments.batch or batch, arguments.size or side, channels)
    groups = [2**power for power in range(1, channels.bit_length())]
    slow = {count: keras(count, KERAS_ROUNDS.get(count, 1)) for count in (groups if arguments.full else KERAS_ROUNDS)}
    about, times = _measured(shape, groups, slow, arguments.rounds or rounds, arguments.seconds or seconds)
    print(f"A 3 × 3 convolution of {shape}, float32, forward and backward; ms.\n")
    sections = (
        peer_lines(times, shape, groups, slow),
        lowering_lines(times, shape, groups),
        pair_lines(times, shape),
        target_lines(times, groups, slow),
    )
    print("\n\n".join("\n".join(lines) for lines in sections))
    if arguments.json:
        result = {"machine": about, "shape": str(shape), "times": times.to_json()}
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _measured(
    shape: Shape, groups: Sequence[int], slow: dict[int, Task], rounds: int, seconds: float
) -> tuple[dict[str, Any], Times]:
    """The machine and the times; what is compared has been found to be the same."""
    peers = peer_tasks(groups, slow)
    own = [task for count in groups for task in lowerings(count, shape.channels).values()]
    merged = [task for _, _, *both in pairs(shape) for task in both]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = machine()
        write_arrays(folder / "layer.npz", shape, [1, *groups])
        sides = [Side(TENSORFLOW, "grouped_ustoolkit.py", folder), Side(PEER, "grouped_pytorch.py", folder)]
        for side in sides:
            about |= side.ask(hello=True)
        print_machine(about)
        check(folder, sides, [*peers, *(task for task in own if "pass=forward" not in task.name)])
        times = take_turns(sides, sorted([*peers, *own, *merged], key=_groups), rounds, seconds)
        for side in sides:
            side.close()
    return about, times


def _groups(task: Task) -> int:
    return next(int(word.removeprefix("groups=")) for word in task.name.split() if word.startswith("groups="))


def _duration(times: Times, task: Task) -> str:
    return number(times.milliseconds(task))


if __name__ == "__main__":
    main()
