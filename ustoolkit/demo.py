"""The main job from end to end, each stage by the command that a person would type: `make demo`."""

import argparse
import contextlib
import io
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ustoolkit.cli import main as run_command

PHANTOMS = 240


class StageFailed(Exception):
    """A stage did not succeed; it has said why."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the demonstration and prints where each result lies.

    Returns:
        the exit code of the first stage that failed, else 0.
    """
    parser = argparse.ArgumentParser(prog="ustoolkit.demo", description=__doc__)
    parser.add_argument("--data", default="", help="a folder of images and masks (default: phantoms)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything (default: demo)")
    parser.add_argument("--recipe", default="demo", help="recipe to train (default: demo)")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        commands, results = _run_stages(options)
    except StageFailed as failure:
        return int(str(failure))
    print(_summary(options.out, commands, results, time.perf_counter() - started))
    return 0


def _run_stages(options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    out: Path = options.out
    records, run = str(out / "records"), str(out / "run")
    data = options.data or str(out / "phantoms")
    stages: list[list[str]] = []
    if not options.data:
        stages.append(["phantom", "--out", data, "--count", str(PHANTOMS), "--overwrite"])
    overrides = [word for setting in options.set for word in ("--set", setting)]
    stages += [
        ["inspect", data],
        ["records", data, "--out", records, "--overwrite"],
        ["train", options.recipe, "--records", records, "--out", run, "--overwrite", *overrides],
        ["evaluate", run],
        ["predict", run, records, "--split", "test", "--out", str(out / "predictions"), "--overwrite"],
        ["export", run, "--out", str(out / "saved_model"), "--overwrite"],
        ["report", run],
    ]
    commands, results = [], {}
    for stage in stages:
        commands.append("ustoolkit " + shlex.join(stage))
        print(f"\n$ {commands[-1]}", flush=True)
        results[stage[0]] = _run_stage(stage)
    return commands, results


def _run_stage(stage: list[str]) -> dict[str, Any]:
    """Runs a command for its JSON, and shows a person the lines that matter."""
    started, captured = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(captured):
        code = run_command([*stage, "--json"])
    if code:
        raise StageFailed(str(code))
    result = json.loads(captured.getvalue())
    print(f"{_headline(stage[0], result)}  ({time.perf_counter() - started:.0f} s)", flush=True)
    return result


def _headline(stage: str, result: dict[str, Any]) -> str:
    if stage == "inspect":
        problems = len(result["problems"]) + len(result["refused"])
        return f"{result['images']} images of {result['patients']} patients, {problems} findings"
    if stage == "records":
        return f"{result['images']} images converted, {len(result['refused'])} refused"
    if stage == "train":
        return f"{result['epochs']} epochs, best validation Dice {result['best_validation_dice']:.3f}"
    if stage == "evaluate":
        return f"{result['images']} images of {result['patients']} patients, not trained on"
    if stage == "predict":
        return f"{len(result['masks'])} masks and overlays"
    return "done"


def _summary(out: Path, commands: list[str], results: dict[str, Any], seconds: float) -> str:
    scores = []
    for name, metrics in results["evaluate"]["classes"].items():
        dice = metrics["dice"]
        values = [dice[key] for key in ("mean", "interval_low", "interval_high")]
        mean, low, high = ("unknown" if value is None else f"{value:.3f}" for value in values)
        scores.append(f"  {name}: mean Dice {mean} (95 % interval {low} to {high})")
    places = [
        ("records", out / "records"),
        ("trained run", out / "run"),
        ("score tables", Path(results["evaluate"]["folder"])),
        ("masks, overlays", out / "predictions"),
        ("SavedModel", out / "saved_model"),
        ("report", out / "run" / "report.html"),
    ]
    lines = [
        "",
        f"Done in {seconds / 60:.1f} min, on {results['evaluate']['images']} images that were not trained on:",
        *scores,
        "",
        "Results:",
        *(f"  {name:<16} {place}" for name, place in places),
        "",
        "The same by hand:",
        *(f"  {command}" for command in commands),
        "",
        f"Open the report: {(out / 'run' / 'report.html').resolve().as_uri()}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
