"""Activation maximization of all filters of a layer at once, beside keras-vis with one filter after another.

python benchmarks/explain.py
python benchmarks/explain.py --quick        # few steps and filters, one round: to try it

Both sides have the same network, objective, number of steps and threads, and take turns in one process; it stops unless
both find the same loss for the same picture. Everything counts from having the model to having the pictures: the graph
is built and compiled anew each time. keras-vis gets its bridge once a layer and as many filters as fit in the time of a
round; the others are taken to need as long as those.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from turns import machine, number, print_machine, target_line

_SHALLOW, _DEEP = 25, 10  # times as fast, at least
_MEMORY = """
import sys
from pathlib import Path
import ustoolkit
from ustoolkit.explain.maximization import MaximizationSettings, maximize
from ustoolkit.models import build_model
from ustoolkit.recipe import load_recipe
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
model = build_model(load_recipe("ronneberger_unet", preview=True), 2)
count = int(sys.argv[1])
before = most()
maximize(model, "encoder4_conv2", [n % 256 for n in range(count)], MaximizationSettings(steps=2))
print(before, most())
"""


@dataclass(frozen=True)
class Case:
    """A layer, and how both sides are asked for its filters.

    Args:
        name: for the table.
        recipe: a shipped one, whose network it is, with random weights.
        layer: of it.
        filters: how many ours makes, the first ones.
        steps: of gradient descent.
        preview: the network's preview, of 96 × 96 or 64 × 64, or the published one.
        needed: ratio that is aimed at; 0 for none.
        small: whether ours may take a picture as small as the receptive field allows, and what keras-vis takes then:
            'ours' its own size, 'both' the small one too.
        options: further settings of ours.
    """

    name: str
    recipe: str
    layer: str
    filters: int
    steps: int = 200
    preview: bool = True
    needed: float = 0
    small: str = ""
    options: tuple[tuple[str, Any], ...] = ()


_UNET, _RONNEBERGER, _RESNET = "unet", "ronneberger_unet", "lymph_node_resnet50"
CASES = [
    Case("U-net, deepest convolution", _UNET, "encoder4_conv2", 64, needed=_DEEP),
    Case("… through 3 sizes", _UNET, "encoder4_conv2", 64, needed=_DEEP, options=(("scales", 3),)),
    Case("ResNet50, deep convolution", _RESNET, "conv5_block2_2_conv", 64, needed=_DEEP),
    Case("Ronneberger's U-net, deepest convolution", _RONNEBERGER, "encoder4_conv2", 64, needed=_DEEP),
    Case("… through 3 sizes", _RONNEBERGER, "encoder4_conv2", 64, needed=_DEEP, options=(("scales", 3),)),
    Case("VGG16, deep convolution", "lymph_node_vgg16", "block5_conv2", 16),
    Case("… in bfloat16", "lymph_node_vgg16", "block5_conv2", 16, options=(("precision", "bfloat16"),)),
    Case("U-net, shallow convolution, small picture", _UNET, "encoder1_conv2", 32, needed=_SHALLOW, small="ours"),
    Case("… keras-vis with the small picture too", _UNET, "encoder1_conv2", 32, small="both"),
    Case("published Ronneberger's, deepest convolution", _RONNEBERGER, "encoder4_conv2", 8, steps=10, preview=False),
]


def settings() -> Any:
    """What `explain --engine keras-vis` asks for: weights of the regularisers that suit pixels of 0 to 255."""
    from ustoolkit.explain.engines import PRESETS

    return PRESETS["keras-vis"]


def small_size(model: Any, layer: str) -> tuple[int, int]:
    """The least multiple of the network's coarsest stride that holds twice the layer's receptive field."""
    from ustoolkit.explain.excitation import Excitation
    from ustoolkit.explain.receptive_field import receptive_fields

    field = receptive_fields(model, [layer])[layer]
    strides = Excitation(model, model.layers[-1].name).coarsest_strides()
    return tuple(
        int(-(-2 * side // stride) * stride) for side, stride in zip((field.height, field.width), strides, strict=True)
    )


def check(model: Any, layer: str, size: tuple[int, int] | None) -> None:
    """Stops unless both sides find the same loss for a picture.

    Raises:
        SystemExit: they do not.
    """
    import numpy as np

    from ustoolkit.explain.keras_vis import KerasVis
    from ustoolkit.explain.maximization import MaximizationSettings, maximize

    shape = (*(size or model.input_shape[1:3]), model.input_shape[-1])
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    ours = maximize(model, layer, [1], MaximizationSettings(steps=0, image_size=size), image).losses[0]
    with KerasVis(model, layer, size) as vis:
        theirs, _ = vis.loss_and_gradient(image, 1)
    if abs(ours - theirs) > 1e-4 * abs(theirs):
        raise SystemExit(f"{layer}: the losses differ, ours {ours}, that of keras-vis {theirs}.")


def time_ours(model: Any, case: Case, size: tuple[int, int] | None) -> dict[str, float]:
    """Seconds for all filters, and those of them that pass before the first step."""
    from ustoolkit.explain.maximization import maximize

    seconds = []
    for steps in (0, case.steps):
        start = time.perf_counter()
        asked = replace(settings(), steps=steps, image_size=size, jitter=0.0, **dict(case.options))
        found = maximize(model, case.layer, range(case.filters), asked)
        found.pictures()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds[1], "start": seconds[0], "losses": found.losses.tolist(),
        "activations": found.activations.tolist(),
    }  # fmt: skip


def time_theirs(model: Any, case: Case, size: tuple[int, int] | None, seconds: float) -> dict[str, float]:
    """Seconds for as many filters as ours makes, and those for entering and for building each filter's graph."""
    from ustoolkit.explain.keras_vis import KerasVis

    begin = time.perf_counter()
    losses: list[float] = []
    activations: list[float] = []
    with KerasVis(model, case.layer, size) as vis:
        entered = time.perf_counter() - begin
        begin = time.perf_counter()
        while len(losses) < case.filters and (not losses or time.perf_counter() - begin < seconds):
            picture = vis.maximize(len(losses), steps=case.steps, objective=settings().objective, seed=len(losses))
            losses.append(picture.loss)
            activations.append(picture.activation)
        each = (time.perf_counter() - begin) / len(losses)
        begin = time.perf_counter()
        vis.maximize(0, steps=1, objective=settings().objective)
        graph = time.perf_counter() - begin
    whole = entered + case.filters * each
    return {
        "seconds": whole, "entered": entered, "graph": graph, "filters": len(losses), "losses": losses,
        "activations": activations,
    }  # fmt: skip


def measure(case: Case, rounds: int, seconds: float) -> dict[str, Any]:
    """Both sides' times of some rounds, in turns, after one short round that is not counted."""
    import tf_keras as keras

    from ustoolkit.models import build_model
    from ustoolkit.recipe import load_recipe

    keras.utils.set_random_seed(0)
    model = build_model(load_recipe(case.recipe, preview=case.preview), 2)
    size = small_size(model, case.layer) if case.small else None
    their_size = size if case.small == "both" else None
    check(model, case.layer, their_size)
    ours, theirs = [], []
    for turn in range(rounds):
        sides = [
            lambda: ours.append(time_ours(model, case, size)),
            lambda: theirs.append(time_theirs(model, case, their_size, seconds)),
        ]
        for side in sides if turn % 2 == 0 else sides[::-1]:
            side()
    own = model.input_shape[1:3]
    return {
        "case": case.name, "layer": case.layer, "filters": case.filters, "steps": case.steps,
        "our_size": size or own, "their_size": their_size or own, "ours": ours, "theirs": theirs,
        "ratios": [other["seconds"] / one["seconds"] for one, other in zip(ours, theirs, strict=True)],
    }  # fmt: skip


def table_line(found: dict[str, Any]) -> str:
    """A case as a row of a Markdown table."""

    def middle(side: str, key: str) -> float:
        return statistics.median(each[key] for each in found[side])

    def of_both(side: str, key: str) -> float:
        # of the filters that keras-vis had time for
        values = [
            value
            for each, other in zip(found[side], found["theirs"], strict=True)
            for value in each[key][: len(other[key])]
        ]
        return statistics.median(values)

    ratios = sorted(found["ratios"])
    ours = f"{number(middle('ours', 'start'))} of {number(middle('ours', 'seconds'))}"
    theirs = f"{number(middle('theirs', 'entered'), 2)} + {number(middle('theirs', 'graph'), 2)} a filter"
    sizes = {side: found[key][0] for side, key in (("theirs", "their_size"), ("ours", "our_size"))}
    speeds = " | ".join(
        f"{found['filters'] / middle(side, 'seconds'):.2f} ({sizes[side]} px)" for side in ("theirs", "ours")
    )
    return (
        f"| {found['case']}: {found['filters']} of `{found['layer']}`, {found['steps']} steps | {speeds} "
        f"| {number(statistics.median(ratios))} ({number(ratios[0])} to {number(ratios[-1])}) "
        f"| {theirs} | {ours} | {number(of_both('theirs', 'losses'), 2)}; "
        f"{number(of_both('ours', 'losses'), 2)} | {of_both('theirs', 'activations'):.3g}; "
        f"{of_both('ours', 'activations'):.3g} |"
    )


def memory_lines(counts: tuple[int, ...]) -> list[str]:
    """The most memory that a process of ours held, by number of filters."""
    lines = ["| filters of the deepest convolution | most memory, MB | of it before |", "|---|---|---|"]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    for count in counts:
        command = [sys.executable, "-c", _MEMORY, str(count)]
        finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        before, after = map(float, finished.stdout.split()[-2:])
        lines.append(f"| {count} | {number(after)} | {number(before)} |")
    return lines


def main() -> None:
    """Prints the machine and the tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps and filters, one round: to try it")
    parser.add_argument("--rounds", type=int, help="turns that each takes (default 3)")
    parser.add_argument("--seconds", type=float, help="for keras-vis in each round (default 20)")
    parser.add_argument("--case", type=int, action="append", help="only this row, from 0")
    parser.add_argument("--json", type=Path, help="file for every measurement")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # all on the CPU
    import ustoolkit.models.network_builders  # noqa: F401  here, so that --help is quick and TensorFlow sees the settings above

    rounds = arguments.rounds or (1 if arguments.quick else 3)
    seconds = arguments.seconds or (2 if arguments.quick else 20)
    about = machine()
    print_machine(about)
    print(
        "| network's layer | keras-vis, filters/s | ustoolkit, filters/s "
        "| so many times as fast, median (range of rounds) | keras-vis' s: bridge + graph "
        "| our s before the first step | median loss: keras-vis; ours | median activation: keras-vis; ours |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    cases = CASES if arguments.case is None else [CASES[row] for row in arguments.case]
    if arguments.quick:
        cases = [replace(case, filters=min(8, case.filters), steps=10) for case in cases if case.preview]
    results, targets = [], []
    for case in cases:
        results.append(measure(case, rounds, seconds))
        print(table_line(results[-1]), flush=True)
        if case.needed:
            targets.append(target_line(case.name, case.needed, statistics.median(results[-1]["ratios"])))
    memory = memory_lines((64,) if arguments.quick else (64, 256, 1024))
    print("", *memory, "", *targets, sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
