"""How fast training images come: our pipeline beside MONAI's, and the memory that it takes.

python benchmarks/pipeline.py
python benchmarks/pipeline.py --memory

Both keep decoded images in memory, make the same random changes and have as many processes as there are cores. Each
side has all cores while the other waits; they take turns in short rounds.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from pipeline_data import phantoms, write_repeated
from turns import OURS, Side, Task, machine, number, print_machine, take_turns, target_line

MONAI = "MONAI"
RECIPES = {"fast": "160 × 160, grey", "unet": "256 × 256, RGB"}
ENGINES = ("imgaug", "tensorflow")
TARGET = 2.0
MEMORY_CASES = ("auto", "disk", "off")


def compare(folder: Path, images: int, rounds: int, seconds: float) -> dict[str, object]:
    """Prints a table of images/s and ratios.

    Args:
        folder: for the data, of `make_data`.
        images: in a pass.
        rounds: turns each side takes.
        seconds: how long each task is repeated in a turn.
    Returns:
        what was measured, to be kept as JSON.
    """
    sides = [Side(OURS, "side_pipeline.py", folder), Side(MONAI, "side_monai.py", folder)]
    about = machine()
    for side in sides:
        about |= side.ask(hello=True)
    print_machine(about)
    for recipe in RECIPES:
        _check_same_work(sides, recipe)
    rows = []
    print("| images | ours | images/s | MONAI, images/s | ours / MONAI, median (range of rounds) |")
    print("|---|---|---|---|---|", flush=True)
    for recipe, words in RECIPES.items():
        peer = Task(MONAI, recipe)
        ours = [Task(OURS, f"{recipe} {engine}") for engine in ENGINES]
        times = take_turns(sides, [*ours, peer], rounds, seconds)
        for task, engine in zip(ours, ENGINES, strict=True):
            rates = [number(1000 * images / times.milliseconds(each)) for each in (task, peer)]
            print(f"| {words} | {engine} | {rates[0]} | {rates[1]} | {times.shown(task, peer)} |", flush=True)
            rows.append((f"{words}, {engine}", times.times_as_fast(task, peer), times.to_json()))
        for side in sides:
            side.ask(forget=True)
    for side in sides:
        side.close()
    print()
    print(*(target_line(f"{what} beside MONAI", TARGET, ratio) for what, ratio, _ in rows), sep="\n")
    return {"machine": about, "rows": [{"what": what, "ratio": ratio, "times": times} for what, ratio, times in rows]}


def make_data(folder: Path, images: int, drawn: int) -> None:
    """Phantoms as records and as PNG files; there are `drawn` pictures, each read as often as `images` asks."""
    samples = phantoms(drawn, (300, 400))
    write_repeated(folder / "records", images, samples)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for place, sample in enumerate(samples):
        cv2.imwrite(str(folder / "images" / f"{place:04}.png"), sample.image)
        cv2.imwrite(str(folder / "masks" / f"{place:04}.png"), 255 * (sample.mask > 0).astype(np.uint8))


def measure_memory(folder: Path, counts: list[int]) -> None:
    """Prints the peak memory of an epoch of few and of many tiny images, each in a process of its own."""
    samples = phantoms(32, 64)
    for count in counts:
        write_repeated(folder / str(count), count, samples)
    print("| cache | " + " | ".join(f"{count:,} images, MB" for count in counts) + " | more, MB |")
    print("|---" * (len(counts) + 2) + "|", flush=True)
    for cache in MEMORY_CASES:
        peaks = [_peak_megabytes(folder / str(count), cache) for count in counts]
        cells = [f"{peak:,.0f}" for peak in (*peaks, peaks[-1] - peaks[0])]
        print(f"| {cache} | " + " | ".join(cells) + " |", flush=True)


def _peak_megabytes(records: Path, cache: str) -> float:
    command = [sys.executable, str(Path(__file__).parent / "pipeline_memory.py"), str(records), cache]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {finished.returncode}.")
    steps = json.loads(finished.stdout.splitlines()[-1])
    print(f"<!-- {records.name} {cache}: {steps} -->", flush=True)
    return max(steps.values())


def _check_same_work(sides: list[Side], recipe: str) -> None:
    """Refuses to compare where sizes differ, or images and masks look quite different."""
    ours, peer = (side.ask(describe=f"{recipe} imgaug" if side.name == OURS else recipe) for side in sides)
    if ours["shape"] != peer["shape"]:
        raise SystemExit(f"recipe '{recipe}': our batches are {ours['shape']}, MONAI's {peer['shape']}.")
    if abs(ours["mean"] - peer["mean"]) > 40 or not 0.3 < ours["lesion"] / peer["lesion"] < 3:
        raise SystemExit(f"recipe '{recipe}': the batches differ: ours {ours}, MONAI's {peer}.")


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", action="store_true", help="peak memory of 1,000 and 100,000 images instead")
    parser.add_argument("--images", type=int, default=1024, help="images in a pass (default 1,024)")
    parser.add_argument("--rounds", type=int, default=7, help="turns each side takes (default 7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn, or one pass (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.memory:
            measure_memory(folder, [1_000, 100_000])
            return
        if importlib.util.find_spec("monai") is None:
            raise SystemExit("MONAI is not installed. Run: pip install -e '.[bench]'")
        make_data(folder, arguments.images, min(128, arguments.images))
        found = compare(folder, arguments.images, arguments.rounds, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
