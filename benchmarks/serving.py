"""The server beside the model alone, and a soak test.

python benchmarks/serving.py
python benchmarks/serving.py --quick            # short rounds, to try it
python benchmarks/serving.py --soak 10          # minutes of mixed good and bad requests: nothing lost, memory flat

Networks have random weights; what they compute is then outweighed by an ellipse, since a mask of noise takes longer to
clean than one of a lesion. The model alone is its SavedModel in a process of its own: `serving_default` on decoded
pixels, 1 and 8 images a call, of which the faster counts, and `compact` from PNG to PNG. The server has 16 clients,
sending one PNG at a time to `compact` as TensorFlow Serving's JSON on a connection that it keeps. Both take turns;
one waits while the other works. The clients share the cores with the server.
"""

import argparse
import base64
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from serving_clients import Request, keep_busy, running_server
from serving_soak import soak
from turns import Side, machine, number, print_machine, target_line

_CLIENTS = 16
_NEEDED = 0.8
_RAW = ("serving_default 1", "serving_default 8", "compact 1", "compact 8")


def main() -> None:
    """Measures, and prints tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["unet", "fast"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES")
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="of ServerSettings, as workers=1")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = dict(each.split("=") for each in arguments.set)
    print_machine(machine())
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for recipe in arguments.recipes[-1:] if arguments.soak else arguments.recipes:
            export = Path(folder) / recipe
            _write_export(recipe, export)
            if arguments.soak:
                results.append(soak(export, _image(), arguments.soak, options))
            else:
                results.append(_measure(recipe, export, options, *((1, 3) if arguments.quick else (3, 8))))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))
    if not all(result["passed"] for result in results):
        sys.exit(1)


def _measure(recipe: str, export: Path, options: dict[str, float], rounds: int, seconds: float) -> dict:
    raw = Side("raw", "serving_raw.py", export / "1")
    request = _request(recipe)
    rates: dict[str, list[float]] = {}
    waits: list[float] = []
    with running_server(export, export / "server.log", **options) as server:
        for task in _RAW:
            raw.ask(task=task, seconds=0)
        # A batch of a large network takes seconds: the round must hold many.
        slowest = raw.ask(task=_RAW[1], seconds=0)[0] / 8
        seconds = max(seconds, 100 * slowest)
        for turn in range(rounds):
            for task in _RAW[:: -1 if turn % 2 else 1]:
                images = int(task.split()[1])
                taken = raw.ask(task=task, seconds=seconds / 4)
                rates.setdefault(task, []).append(images * len(taken) / sum(taken))
            counts, lasted = keep_busy(
                server.port, _CLIENTS, seconds, lambda client, count: request, warm_up=seconds / 4
            )
            if counts.wrong:
                raise SystemExit(f"wrong answers: {counts.by_status}, such as {counts.wrong[0]}")
            rates.setdefault("server", []).append(counts.by_status[200] / lasted)
            waits += counts.seconds
        server.stop()
    raw.close()
    return _report(recipe, rates, waits)


def _report(recipe: str, rates: dict[str, list[float]], waits: list[float]) -> dict:
    def beside(tasks: tuple[str, ...]) -> list[float]:
        best = [max(turn) for turn in zip(*(rates[task] for task in tasks), strict=True)]
        return [ours / theirs for ours, theirs in zip(rates["server"], best, strict=True)]

    of_model, of_compact = beside(_RAW[:2]), beside(_RAW[2:])
    p50, p99 = (1000 * value for value in np.percentile(waits, [50, 99]))
    print(f"### {recipe}\n\n| what | images/s, median (range of rounds) |\n|---|---|")
    for task, found in rates.items():
        print(f"| {task} | {number(statistics.median(found))} ({number(min(found))} to {number(max(found))}) |")
    print(f"\n- latency at {_CLIENTS} clients: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(waits):,} answers")
    print(f"- server / compact in its own process: {number(statistics.median(of_compact), 2)}")
    print(target_line("server / model on decoded pixels", _NEEDED, statistics.median(of_model)), end="\n\n", flush=True)
    return {
        "recipe": recipe,
        "rates": rates,
        "p50_ms": p50,
        "p99_ms": p99,
        "ratios": of_model,
        "compact_ratios": of_compact,
        "passed": statistics.median(of_model) >= _NEEDED,
    }


def _write_export(recipe: str, folder: Path) -> None:
    """An export of an untrained network."""
    import tf_keras as keras

    from ustoolkit.export.saved_model import write_saved_model
    from ustoolkit.export.signatures import ExportedGraph, describe_signatures
    from ustoolkit.inference.graph import Member, SegmentationGraph
    from ustoolkit.models import build_model
    from ustoolkit.recipe import load_recipe

    settings = load_recipe(recipe)
    model = build_model(settings, 2)
    rows, columns = np.mgrid[-1 : 1 : 1j * model.output_shape[1], -1 : 1 : 1j * model.output_shape[2]]
    ellipse = np.clip(6 - 40 * (rows**2 + 2 * columns**2), -10, 10).astype(np.float32)[np.newaxis, ..., np.newaxis]
    outweighed = keras.Model(model.inputs, model.output * 0.01 + ellipse)
    graph = SegmentationGraph([Member(outweighed, settings.data)], settings.inference)
    version = folder / "1"
    version.mkdir(parents=True)
    exported = ExportedGraph(graph)
    write_saved_model(exported, version)
    metadata = {
        "name": recipe,
        "version": 1,
        "classes": ["background", "lesion"],
        "inference": settings.inference.model_dump(mode="json"),
        "signatures": describe_signatures(exported),
    }
    (version / "metadata.json").write_text(json.dumps(metadata))
    np.save(version / "image.npy", _image())


def _image() -> np.ndarray:
    from ustoolkit.data.phantom import phantom_samples

    return next(phantom_samples(1, seed=5)).image


def _request(name: str) -> Request:
    from ustoolkit.data.image_files import encode_png

    row = {"image_bytes": {"b64": base64.b64encode(encode_png(_image())).decode()}, "spacing_mm": [0.1, 0.1]}
    body = json.dumps({"signature_name": "compact", "instances": [row]}).encode()
    return Request(f"/v1/models/{name}:predict", "application/json", body)


if __name__ == "__main__":
    main()
