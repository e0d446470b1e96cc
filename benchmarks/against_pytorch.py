"""How fast the toolkit is beside plain PyTorch on this machine: input pipeline, training step, inference.

python benchmarks/against_pytorch.py --quick

Each framework runs in a process of its own and has all cores while the other waits; the two take turns in short
rounds, so that a machine that slows down or speeds up does so for both.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from turns import OURS, PEER, Side, machine, number, print_machine, require_pytorch

PLAIN = "training.precision=float32 training.branches=1"  # as PyTorch comes, whatever the recipe says


@dataclass
class Comparison:
    """One row of the table.

    Attributes:
        what: what is measured.
        ours, peer: the tasks to set beside each other, as the sides name them.
        images: images of one measurement where the row shows images/s, 0 where it shows ms.
        seconds: by side, a list of measurements a round.
    """

    what: str
    ours: str
    peer: str
    images: int = 0
    seconds: dict[str, list[list[float]]] = field(default_factory=lambda: {OURS: [], PEER: []})

    def value(self, side: str) -> float:
        """Median of the rounds' medians, images/s or ms."""
        return self._unit(statistics.median(map(statistics.median, self.seconds[side])))

    def ratios(self) -> list[float]:
        """Ours / PyTorch, sorted, one a round: each compares what ran one right after the other."""
        pairs = zip(self.seconds[OURS], self.seconds[PEER], strict=True)
        return sorted(self._unit(statistics.median(ours)) / self._unit(statistics.median(peer)) for ours, peer in pairs)

    def ratio_of_fastest(self) -> float:
        """Ours / PyTorch of each side's one fastest measurement, which other work on the machine disturbs least."""
        ours, peer = (self._unit(min(map(min, self.seconds[side]))) for side in (OURS, PEER))
        return ours / peer

    def line(self) -> str:
        """The row as Markdown."""
        ratios = self.ratios()
        unit = "images/s" if self.images else "ms"
        return (
            f"| {self.what} | {number(self.value(OURS))} {unit} | {number(self.value(PEER))} {unit} "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {self.ratio_of_fastest():.2f} |"
        )

    def _unit(self, seconds: float) -> float:
        return self.images / seconds if self.images else 1000 * seconds


def sections(images: int, full: bool) -> Iterator[tuple[str, list[Comparison]]]:
    """What is compared: a title, and rows whose tasks take turns."""
    yield (
        "pipeline",
        [
            Comparison(
                "pipeline, images in memory; PyTorch with imgaug",
                "pipeline cached",
                "pipeline cached",
                images,
            ),
            Comparison("… with grid_sample", "pipeline cached", "pipeline cached grid_sample", images),
            Comparison("pipeline, decoding each time; PyTorch with imgaug", "pipeline", "pipeline", images),
            Comparison("… with grid_sample", "pipeline", "pipeline grid_sample", images),
        ],
    )
    for recipe, shape in (("fast", "16 × 160 × 160"), ("unet", "8 × 256 × 256"))[: 2 if full else 1]:
        title, ours = f"training step, recipe '{recipe}' in float32, {shape}", f"train {recipe} {PLAIN}"
        yield (
            f"training {recipe}",
            [
                Comparison(f"{title}; PyTorch as it comes", ours, f"train {recipe}"),
                Comparison("… channels_last", ours, f"train {recipe} channels_last"),
            ],
        )
    for count in (1, 8):
        graph, exported, peer = f"infer {count}", f"infer {count} exported", f"infer {count}"
        title = f"inference, {count} of 300 × 400"
        rows = [
            Comparison(f"{title}; PyTorch as it comes", graph, peer),
            Comparison("… our SavedModel", exported, peer),
            Comparison("… our SavedModel; PyTorch channels_last", exported, f"{peer} channels_last"),
        ]
        if full:
            rows.append(Comparison("… our SavedModel; PyTorch compiled", exported, f"{peer} compiled"))
        yield f"inference {count}", rows


def measure(sides: list[Side], rows: list[Comparison], rounds: int, seconds: float) -> None:
    """Lets the sides take turns; a task that several rows share is measured once a round."""
    for turn in range(rounds + 1):
        results = {}
        for side in sides if turn % 2 else sides[::-1]:
            for task in dict.fromkeys(row.ours if side.name == OURS else row.peer for row in rows):
                results[side.name, task] = side.ask(task=task, seconds=seconds if turn else 0)
        if not turn:
            continue  # the first round compiles, fills caches and starts workers
        for row in rows:
            row.seconds[OURS].append(results[OURS, row.ours])
            row.seconds[PEER].append(results[PEER, row.peer])


def make_data(folder: Path, images: int) -> None:
    """Draws phantoms, writes them as PNG files and as records, and splits the patients."""
    from ustoolkit.data.phantom import write_phantoms
    from ustoolkit.data.readers import open_data_set
    from ustoolkit.data.records import write_records
    from ustoolkit.data.split import split_patients, write_splits
    from ustoolkit.recipe import DataSetSettings

    settings = DataSetSettings(format="phantom")
    phantoms = write_phantoms(folder / "phantoms", images, size=(300, 400))
    records = write_records(open_data_set(phantoms, settings), folder / "records", settings)
    write_splits(folder / "records" / "splits.json", split_patients(records.index), {})


def main() -> None:
    """Prints the machine and a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and short rounds, under a minute")
    parser.add_argument("--full", action="store_true", help="also the published U-net, and torch.compile")
    parser.add_argument("--rounds", type=int, help="turns each side takes (default 7, 2 with --quick)")
    parser.add_argument("--only", default="", help="sections whose name starts so: pipeline, training, inference")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    arguments = parser.parse_args()
    require_pytorch()
    images, rounds, seconds = (64, 2, 0.3) if arguments.quick else (256, 7, 1.5)
    rounds = arguments.rounds or rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = machine()
        make_data(folder, images)
        sides = [Side(OURS, "side_ustoolkit.py", folder), Side(PEER, "side_pytorch.py", folder)]
        first, second = (side.ask(hello=True) for side in sides)
        about |= first | second
        print_machine(about)
        for recipe in ("fast", "unet")[: 2 if arguments.full else 1]:
            _check_same_network(sides, recipe)
        print("| what | ours | PyTorch | ours / PyTorch, median (range of rounds) | of the fastest |")
        print("|---|---|---|---|---|", flush=True)
        done = []
        for title, rows in sections(images, arguments.full):
            if not title.startswith(arguments.only):
                continue
            measure(sides, rows, rounds, seconds)
            print(*(row.line() for row in rows), sep="\n", flush=True)
            done.extend(rows)
            for side in sides:
                side.ask(forget=True)
        for side in sides:
            side.close()
    if arguments.json:
        rows = [asdict(row) | {"ratios": row.ratios(), "ratio_of_fastest": row.ratio_of_fastest()} for row in done]
        arguments.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


def _check_same_network(sides: list[Side], recipe: str) -> None:
    """Refuses to compare networks, losses or resizing that are not the same; PyTorch gets our weights for it."""
    ours, peer = (side.ask(describe=recipe) for side in sides)
    if ours["weights"] != peer["weights"]:
        raise SystemExit(
            f"recipe '{recipe}': our network has {ours['weights']:,} trainable weights, PyTorch's {peer['weights']:,}."
        )
    if peer["difference"] > 1e-3 or abs(ours["loss"] - peer["loss"]) > 1e-3:
        raise SystemExit(
            f"recipe '{recipe}': with the same weights the probabilities differ by up to {peer['difference']:.2g}, and "
            f"the losses are {ours['loss']:.6f} (ours) and {peer['loss']:.6f} (PyTorch)."
        )


if __name__ == "__main__":
    main()
