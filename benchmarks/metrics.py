"""Dice and surface distances over a set of masks, beside MONAI's and MedPy's.

python benchmarks/metrics.py
python benchmarks/metrics.py --quick        # few masks, one round: to try it

All measure the same pairs of masks in the same process and take turns; the script stops unless every value is the same.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from turns import OURS, Task, Times, cores, machine, number, print_machine, target_line

from ustoolkit.data.phantom import phantom_samples
from ustoolkit.evaluation.overlap import dice
from ustoolkit.evaluation.surface import border_pixels, hausdorff95, surface_distances
from ustoolkit.evaluation.tables import evaluate_image

SIZE = (400, 500)
_MONAI, _MEDPY = "MONAI", "MedPy"
_DICE, _HAUSDORFF, _POOLED = "Dice", "95 % Hausdorff, larger direction", "95 % Hausdorff, directions pooled"
_MEAN = "mean surface distance, directions pooled"
_ROW = "all of a row of `ustoolkit evaluate`"

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Comparison:
    """One definition, computed by us and by a library that has the same.

    Attributes:
        measure: for a reader.
        library: whose peer it is.
        ours, theirs: give the value of each pair of the set.
    """

    measure: str
    library: str
    ours: Callable[[], np.ndarray]
    theirs: Callable[[], np.ndarray]


def draw_pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Phantoms' lesions, and each one moved and its outline bent, as a good network's predictions miss it."""
    rows, columns = np.indices(SIZE, dtype=np.float32)
    pairs = []
    for order, sample in enumerate(phantom_samples(count, size=SIZE)):
        random = np.random.default_rng([0, order])
        bend = [cv2.GaussianBlur(random.normal(size=SIZE).astype(np.float32), (0, 0), 20) for _ in range(2)]
        down, across = (12 * one / np.abs(one).max() + np.float32(random.normal(0, 4)) for one in bend)
        predicted = cv2.remap(sample.mask, columns + across, rows + down, cv2.INTER_NEAREST)
        pairs.append((sample.mask > 0, predicted > 0))
    return pairs


def comparisons(pairs: Pairs) -> list[Comparison]:
    """Everything that is compared; the libraries get their own types, made before the clock runs."""
    import torch
    from medpy.metric import binary
    from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance

    torch.set_num_threads(cores())
    truths, predictions = (
        torch.from_numpy(np.stack(masks)[:, np.newaxis].astype(np.float32)) for masks in zip(*pairs, strict=True)
    )

    def ours(measure: Callable[..., float]) -> Callable[[], np.ndarray]:
        return lambda: np.array([measure(*pair) for pair in pairs])

    def medpy(measure: Callable[..., float]) -> Callable[[], np.ndarray]:
        return lambda: np.array([measure(predicted, truth) for truth, predicted in pairs])

    def monai(measure: Callable[..., torch.Tensor], **settings: Any) -> Callable[[], np.ndarray]:
        return lambda: measure(predictions, truths, include_background=True, **settings).numpy()[:, 0]

    our_dice, our_mean = ours(dice), ours(_pooled_mean)
    return [
        Comparison(_DICE, _MONAI, our_dice, monai(compute_dice)),
        Comparison(_DICE, _MEDPY, our_dice, medpy(binary.dc)),
        Comparison(_HAUSDORFF, _MONAI, ours(hausdorff95), monai(compute_hausdorff_distance, percentile=95)),
        Comparison(_POOLED, _MEDPY, ours(_pooled_percentile), medpy(binary.hd95)),
        Comparison(_MEAN, _MONAI, our_mean, monai(compute_average_surface_distance, symmetric=True)),
        Comparison(_MEAN, _MEDPY, our_mean, medpy(binary.assd)),
    ]


def check(compared: Sequence[Comparison]) -> list[str]:
    """Compares all values, and says in lines of a list how far they are apart.

    Raises:
        SystemExit: a value differs by more than the rounding of the library's numbers.
    """
    lines = []
    for each in compared:
        found, expected = each.ours(), each.theirs()
        difference = float(np.abs(found - expected).max())
        allowed = 1e-5 if each.library == _MONAI else 1e-9  # MONAI counts in float32
        if not difference <= allowed * max(1.0, float(expected.max())):
            raise SystemExit(
                f"{each.measure}: ours and {each.library}'s differ by up to {difference:.2g}; expected none."
            )
        lines.append(
            f"- {each.measure}: mean {found.mean():.4f}; {each.library}'s values differ by {difference:.1g} at most"
        )
    return lines


def measured(compared: Sequence[Comparison], pairs: Pairs, rounds: int) -> Times:
    """Seconds for the whole set; those that are compared stand next to each other, every other round backwards."""
    works = {}
    for each in compared:
        works[_our_task(each)], works[_their_task(each)] = each.ours, each.theirs
    works[Task(OURS, _ROW)] = _rows(pairs)
    times = Times()
    for turn in range(rounds):
        for task, work in list(works.items())[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            work()
            times.seconds.setdefault(task, {})[turn] = [time.perf_counter() - start]
    return times


def together(times: Times, dice_pair: Comparison, distance_pair: Comparison) -> tuple[Task, Task]:
    """Adds up Dice and a distance, round by round, ours and the library's, as tasks of their own."""
    tasks = []
    for task_of in (_our_task, _their_task):
        first, second = (times.seconds[task_of(pair)] for pair in (dice_pair, distance_pair))
        task = Task(task_of(dice_pair).side, f"{dice_pair.measure} and {distance_pair.measure}")
        times.seconds[task] = {turn: [first[turn][0] + second[turn][0]] for turn in first}
        tasks.append(task)
    return tasks[0], tasks[1]


def main() -> None:
    """Prints the machine and the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few masks, one round: to try it")
    parser.add_argument("--images", type=int, help="pairs of masks (default 300)")
    parser.add_argument("--rounds", type=int, help="turns that each takes (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    arguments = parser.parse_args()
    about = machine() | _versions()
    print_machine(about)
    pairs = draw_pairs(arguments.images or (20 if arguments.quick else 300))
    print(_described(pairs), end="\n\n", flush=True)
    compared = comparisons(pairs)
    print("\n".join(check(compared)), end="\n\n", flush=True)
    times = measured(compared, pairs, arguments.rounds or (1 if arguments.quick else 5))
    monai_dice, medpy_dice, monai_distance, medpy_distance = compared[:4]
    both = [together(times, monai_dice, monai_distance), together(times, medpy_dice, medpy_distance)]
    print("| measure | ours, an image | library's, an image | so many times as fast, median (range of rounds) |")
    print("|---|---|---|---|")
    for ours, theirs in [*((_our_task(each), _their_task(each)) for each in compared), *both]:
        each_ms = [f"{number(times.milliseconds(task) / len(pairs), 3)} ms" for task in (ours, theirs)]
        print(f"| {ours.name} | {each_ms[0]} | {theirs.side}: {each_ms[1]} | {times.shown(ours, theirs)} |")
    print(f"| {_ROW} | {number(times.milliseconds(Task(OURS, _ROW)) / len(pairs), 3)} ms | | |\n")
    for ours, theirs in both:
        print(target_line(f"{ours.name}, beside {theirs.side}", 5.0, times.times_as_fast(ours, theirs)))
    if arguments.json:
        result = {"machine": about, "pairs": len(pairs), "times": times.to_json()}
        arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _our_task(each: Comparison) -> Task:
    return Task(OURS, each.measure)


def _their_task(each: Comparison) -> Task:
    return Task(each.library, each.measure)


def _pooled_percentile(truth: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.percentile(np.concatenate(surface_distances(truth, prediction)), 95))


def _pooled_mean(truth: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.concatenate(surface_distances(truth, prediction)).mean())


def _rows(pairs: Pairs) -> Callable[[], list[Any]]:
    indices = [tuple(mask.astype(np.uint8) for mask in pair) for pair in pairs]
    return lambda: [evaluate_image(*pair, ["background", "lesion"]) for pair in indices]


def _described(pairs: Pairs) -> str:
    borders = [int(np.count_nonzero(border_pixels(truth))) for truth, _ in pairs]
    return (
        f"{len(pairs)} pairs of masks of {SIZE[0]} × {SIZE[1]} pixels; outlines of {min(borders)} to {max(borders)} "
        f"pixels, median {statistics.median(borders):.0f}."
    )


def _versions() -> dict[str, str]:
    try:
        return {name: version(name) for name in ("numpy", "scipy", "torch", "monai", "medpy")}
    except PackageNotFoundError as missing:
        raise SystemExit(f"{missing.name} is not installed. Run: pip install torch monai medpy") from None


if __name__ == "__main__":
    main()
