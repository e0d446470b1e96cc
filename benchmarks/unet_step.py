"""How long a training step of the U-net, Light and Lighter U-net takes, beside the same networks in plain PyTorch.

python benchmarks/unet_step.py --quick

A step is forward, soft Dice + cross-entropy, backward and Adam with weight decay, on one batch. Each framework runs in
a process of its own; all steps take turns in rounds.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from against_pytorch import make_data
from turns import (
    OURS,
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

MOST_IMAGES = 8  # the sides keep so many
GROUP_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)
PEER_GROUP_SIZES = (128, 32, 8, 1)
QUICK_GROUP_SIZES, QUICK_PEER_GROUP_SIZES = (128, 8, 1), (8,)
_CONVOLUTION_CHANNELS = 128


@dataclass(frozen=True)
class Network:
    """One network of the table.

    Attributes:
        name: for a reader.
        subject: recipe and settings, as the sides know them.
        peer: whether PyTorch's is measured too.
        speed_up: at least how many times as fast as our U-net's its step should be.
    """

    name: str
    subject: str
    peer: bool
    speed_up: float

    @property
    def ours(self) -> Task:
        """Our step in float32."""
        return Task(OURS, f"train {self.subject}")

    @property
    def ours_bfloat16(self) -> Task:
        """Our step in bfloat16."""
        return Task(OURS, f"train {self.subject} training.precision=bfloat16")

    def pytorch(self, *how: str) -> Task:
        """PyTorch's step: as it comes, or in 'channels_last', or in 'bfloat16' too."""
        return Task(PEER, " ".join(["train", self.subject, *how]))


def networks(size: int, batch: int, quick: bool, peers: bool) -> list[Network]:
    """The U-net first, then Light and the Lighter ones."""
    settings = f"data.image_size=[{size},{size}] training.batch_size={batch}"
    rows = [
        Network("U-net", f"unet {settings}", True, 1.0),
        Network("Light U-net", f"light_unet {settings}", False, 1.0),
    ]
    for group in QUICK_GROUP_SIZES if quick else GROUP_SIZES:
        subject = f"lighter_unet_128 model.group_size={group} {settings}"
        measured = peers and group in (QUICK_PEER_GROUP_SIZES if quick else PEER_GROUP_SIZES)
        rows.append(Network(f"Lighter U-net @{group}", subject, measured, 1.5 if group <= 32 else 1.0))
    return rows


def all_tasks(rows: Sequence[Network], convolutions: Sequence[Task]) -> list[Task]:
    """What takes turns, in an order in which those compared stand together."""
    unet = rows[0]
    default, last, bfloat16 = unet.pytorch(), unet.pytorch("channels_last"), _pytorch_bfloat16(unet)
    tasks = [default, unet.ours, last, unet.ours_bfloat16, bfloat16, *convolutions]
    for row in rows[1:]:
        tasks += [row.ours, row.pytorch("channels_last")] if row.peer else [row.ours]
    return tasks


def check(rows: Sequence[Network], ours: Side, pytorch: Side) -> dict[str, int]:
    """Gives our weights to PyTorch's networks and refuses to compare what is not the same.

    Returns:
        multiply-adds of one image by the network's name.
    Raises:
        SystemExit: the number of weights, a probability or the loss differs.
    """
    counts = {}
    for row in rows:
        own = ours.ask(describe=row.subject)
        counts[row.name] = own["multiply_adds"]
        if not row.peer:
            continue
        other = pytorch.ask(describe=row.subject)
        same_values = other["difference"] < 1e-3 and abs(own["loss"] - other["loss"]) < 1e-3
        if own["weights"] != other["weights"] or not same_values:
            raise SystemExit(
                f"{row.name}: ours has {own['weights']:,} trainable weights and a loss of {own['loss']:.6f}, PyTorch's "
                f"{other['weights']:,} and {other['loss']:.6f} with the same weights, and the probabilities differ by "
                f"up to {other['difference']:.2g}; they should be the same to 0.001."
            )
    return counts


def unet_lines(times: Times, unet: Network) -> list[str]:
    """The table of the U-net's step."""
    pairs = (
        ("ours; PyTorch as it comes", unet.ours, unet.pytorch()),
        ("ours; PyTorch channels_last", unet.ours, unet.pytorch("channels_last")),
        ("ours bfloat16; PyTorch channels_last bfloat16", unet.ours_bfloat16, _pytorch_bfloat16(unet)),
        ("ours bfloat16; ours float32", unet.ours_bfloat16, unet.ours),
    )
    lines = [
        "| U-net, one step | first | second | first is so many times as fast, median (range of rounds) |",
        "|---|---|---|---|",
    ]
    for what, first, second in pairs:
        durations = f"{number(times.milliseconds(first))} ms | {number(times.milliseconds(second))} ms"
        lines.append(f"| {what} | {durations} | {times.shown(first, second)} |")
    return lines


def lighter_lines(times: Times, rows: Sequence[Network], counts: dict[str, int]) -> list[str]:
    """The table of all networks, each beside our U-net and PyTorch's own."""
    unet = rows[0].ours
    lines = [
        "| network | multiply-adds of an image | ours | so many times as fast as our U-net, median (range of rounds) "
        "| PyTorch channels_last | ours is so many times as fast as PyTorch's |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = row.pytorch("channels_last")
        beside = f"{number(times.milliseconds(peer))} ms | {times.shown(row.ours, peer)}" if row.peer else "|"
        lines.append(
            f"| {row.name} | {counts[row.name] / 1e9:.1f} × 10⁹ | {number(times.milliseconds(row.ours))} ms "
            f"| {times.shown(row.ours, unet)} | {beside} |"
        )
    return lines


def rate_lines(times: Times, unet: Network, count: int, convolutions: dict[Task, int], batch: int) -> list[str]:
    """How many operations a second the U-net's steps make, and a single convolution, which bounds them.

    Args:
        times: of the tasks.
        unet: the U-net.
        count: its multiply-adds of an image.
        convolutions: multiply-adds of an image of the single convolutions.
        batch: images a step.
    """
    # The backward pass takes twice the forward pass's, for the gradients of the inputs and of the kernels.
    operations = {
        "step, ours": (unet.ours, 3 * count),
        "step, ours bfloat16": (unet.ours_bfloat16, 3 * count),
        "step, PyTorch as it comes": (unet.pytorch(), 3 * count),
        "step, PyTorch channels_last": (unet.pytorch("channels_last"), 3 * count),
        "step, PyTorch channels_last bfloat16": (_pytorch_bfloat16(unet), 3 * count),
    }
    for task, own in convolutions.items():
        _, _, side, channels, precision = task.name.split()
        title = f"3 × 3 convolution forward, {side} × {side}, {channels} → {channels}, TensorFlow {precision}"
        operations[title] = (task, own)
    lines = ["| what | ms | GFLOP/s |", "|---|---|---|"]
    for what, (task, own) in operations.items():
        milliseconds = times.milliseconds(task)
        lines.append(f"| {what} | {number(milliseconds)} | {number(2 * own * batch / milliseconds / 1e6)} |")
    return lines


def target_lines(times: Times, rows: Sequence[Network]) -> list[str]:
    """What was aimed at, and whether it is reached."""
    unet = rows[0]
    last = unet.pytorch("channels_last")
    lines = [
        target_line("U-net beside PyTorch as it comes", 2.0, times.times_as_fast(unet.ours, unet.pytorch())),
        target_line("U-net beside PyTorch channels_last", 1.0, times.times_as_fast(unet.ours, last)),
        target_line("bfloat16 beside our float32", 1.2, times.times_as_fast(unet.ours_bfloat16, unet.ours)),
    ]
    return lines + [
        target_line(f"{row.name} beside our U-net", row.speed_up, times.times_as_fast(row.ours, unet.ours))
        for row in rows[1:]
    ]


def main() -> None:
    """Prints the machine and the tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="64 × 64, batch 2, one round, few group sizes: to try it")
    parser.add_argument("--full", action="store_true", help="the published batch of 8")
    parser.add_argument("--size", type=int, help="height and width, pixels (default 256)")
    parser.add_argument("--batch", type=int, help=f"images a step, at most {MOST_IMAGES} (default 4)")
    parser.add_argument("--rounds", type=int, help="turns that each step takes (default 5)")
    parser.add_argument("--seconds", type=float, help="of each turn, at least one step (default 0.5)")
    parser.add_argument("--no-peers", action="store_true", help="without PyTorch's Lighter U-nets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    arguments = parser.parse_args()
    require_pytorch()
    size, batch, rounds, seconds = (64, 2, 1, 0.2) if arguments.quick else (256, 4, 5, 0.5)
    size, rounds = arguments.size or size, arguments.rounds or rounds
    batch, seconds = arguments.batch or (8 if arguments.full else batch), arguments.seconds or seconds
    if not 1 <= batch <= MOST_IMAGES:
        parser.error(f"--batch: expected 1 to {MOST_IMAGES}, found {batch}")
    rows = networks(size, batch, arguments.quick, not arguments.no_peers)
    half, channels = size // 2, _CONVOLUTION_CHANNELS
    convolutions = {
        Task(OURS, f"convolution {batch} {half} {channels} {precision}"): half * half * 9 * channels * channels
        for precision in ("float32", "bfloat16")
    }
    about, counts, times = _measured(rows, convolutions, rounds, seconds)
    print(f"A step on {batch} images of {size} × {size} with 3 channels.\n")
    sections = (
        unet_lines(times, rows[0]),
        lighter_lines(times, rows, counts),
        rate_lines(times, rows[0], counts["U-net"], convolutions, batch),
        target_lines(times, rows),
    )
    print("\n\n".join("\n".join(lines) for lines in sections))
    if arguments.json:
        result = {"machine": about, "multiply_adds": counts, "times": times.to_json()}
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _measured(
    rows: Sequence[Network], convolutions: dict[Task, int], rounds: int, seconds: float
) -> tuple[dict[str, Any], dict[str, int], Times]:
    """The machine, the multiply-adds, and the times."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = machine()
        make_data(folder, 32)
        sides = [Side(OURS, "side_ustoolkit.py", folder), Side(PEER, "side_pytorch.py", folder)]
        for side in sides:
            about |= side.ask(hello=True)
        print_machine(about)
        counts = check(rows, *sides)
        times = take_turns(sides, all_tasks(rows, list(convolutions)), rounds, seconds)
        for side in sides:
            side.close()
    return about, counts, times


def _pytorch_bfloat16(network: Network) -> Task:
    return network.pytorch("channels_last", "bfloat16")


if __name__ == "__main__":
    main()
