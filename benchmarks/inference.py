"""What an exported file is worth: each way to run a network, side by side on the same images in the same run.

python benchmarks/inference.py
python benchmarks/inference.py --quick        # the small network only, short rounds: to try it

Images of 256 × 256 pixels go in as uint8, and probabilities of that size come out, resizing included; but for Keras's
`call` and `predict`, which get the network's own input and give its logits.
"""

import argparse
import json
import tempfile
from pathlib import Path

from against_pytorch import make_data
from turns import (
    OURS,
    PEER,
    Side,
    Task,
    machine,
    number,
    print_machine,
    require_pytorch,
    take_turns,
    target_line,
)

SIDE = 256
SUBJECTS = ("unet", "lighter_unet_128", "fast")
RUNTIMES = "runtimes"
FORMS = {
    "Keras call": (OURS, "call {subject} {images} {side}"),
    "Keras predict": (OURS, "predict {subject} {images} {side}"),
    "SavedModel": (OURS, "saved {subject} {images} {side}"),
    "PyTorch": (PEER, "network {subject} {images} {side}"),
    "PyTorch, channels_last": (PEER, "network {subject} {images} {side} channels_last"),
    "PyTorch, compiled": (PEER, "network {subject} {images} {side} compiled"),
    "ONNX Runtime": (RUNTIMES, "file {subject} model.onnx {images} {side}"),
    "LiteRT float32": (RUNTIMES, "file {subject} model_float32.tflite {images} {side}"),
    "LiteRT float16": (RUNTIMES, "file {subject} model_float16.tflite {images} {side}"),
    "LiteRT int8": (RUNTIMES, "file {subject} model_int8.tflite {images} {side}"),
}
_PYTORCH = [form for form in FORMS if form.startswith("PyTorch")]


def main() -> None:
    """Prints the machine, a table and what was aimed at."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="recipe 'fast' only, short rounds")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS, help="these networks")
    parser.add_argument("--rounds", type=int, help="turns each form takes (default 5, 1 with --quick)")
    parser.add_argument("--seconds", type=float, help="of each turn (default 2, 0.3 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    arguments = parser.parse_args()
    require_pytorch()
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    seconds = arguments.seconds or (0.3 if arguments.quick else 2)
    measured = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        about = machine()
        make_data(folder, 16)
        sides = [
            Side(OURS, "side_ustoolkit.py", folder),
            Side(PEER, "side_pytorch.py", folder),
            Side(RUNTIMES, "side_runtime.py", folder),
        ]
        for side in sides:
            about |= side.ask(hello=True)
        print_machine(about)
        for subject in SUBJECTS[-1:] if arguments.quick else arguments.only:
            measured += _compare(subject, sides, rounds, seconds)
        for side in sides:
            side.close()
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "measured": measured}, indent=1) + "\n")


def _compare(subject: str, sides: list[Side], rounds: int, seconds: float) -> list[dict[str, object]]:
    """Prints one network's table and targets."""
    ours, peer, runtimes = sides
    described = ours.ask(describe=subject)
    sizes = ours.ask(describe=f"export {subject}")
    difference = peer.ask(describe=subject)["difference"]
    if difference > 1e-3:
        raise SystemExit(f"recipe '{subject}': PyTorch's probabilities differ by up to {difference:.2g}.")
    apart = runtimes.ask(describe=subject)
    print(f"### {subject}, {described['weights']:,} trainable weights\n")
    files = [f"{name} {sizes[name] / 1e6:.1f} MB, {apart[name]:.1g}" for name in apart]
    print(f"Files, and by how much their probabilities differ (weights are random): {'; '.join(files)}.\n")
    print("| | ms, 1 image | × Keras call | × fastest PyTorch | ms, 8 images | × Keras call | × fastest PyTorch |")
    print("|---|---|---|---|---|---|---|", flush=True)
    cells: dict[str, list[str]] = {form: [] for form in FORMS}
    lines, results = [], []
    for images in (1, 8):
        tasks = {
            form: Task(side, task.format(subject=subject, images=images, side=SIDE))
            for form, (side, task) in FORMS.items()
        }
        times = take_turns(sides, list(tasks.values()), rounds, seconds)
        fastest = min((tasks[form] for form in _PYTORCH), key=times.milliseconds)
        for form, task in tasks.items():
            cells[form] += [
                number(times.milliseconds(task)),
                times.shown(task, tasks["Keras call"]),
                times.shown(task, fastest),
            ]
        int8 = tasks["LiteRT int8"]
        what = f"{subject}, {images} image{'s' if images > 1 else ''}: LiteRT int8 against"
        lines.append(target_line(f"{what} a Keras call", 5, times.times_as_fast(int8, tasks["Keras call"])))
        lines.append(target_line(f"{what} the fastest PyTorch", 2, times.times_as_fast(int8, fastest)))
        results += times.to_json()
        for side in sides:
            side.ask(forget=True)
    for form, texts in cells.items():
        print(f"| {form} | {' | '.join(texts)} |")
    print("", *lines, "", sep="\n", flush=True)
    return results


if __name__ == "__main__":
    main()
