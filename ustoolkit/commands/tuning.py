"""Commands that tune a run on its validation part: tune-crf, tune-threshold."""

import argparse
from typing import TYPE_CHECKING, Any

from ustoolkit.commands.console import Outcome, warn

if TYPE_CHECKING:
    from ustoolkit.data.records import Records
    from ustoolkit.inference.tune import Tuning
    from ustoolkit.run import Run


def tune_crf(options: argparse.Namespace) -> Outcome:
    """Searches the dense CRF's parameters."""
    run, records = _opened(options)
    from ustoolkit.inference.tune import tune_crf

    tuning = tune_crf(run, records, options.trials, options.images, options.seed, options.workers)
    values = ", ".join(f"{name} {value:g}" for name, value in tuning.values.items())
    lines = [f"validation Dice without the CRF {tuning.before:.3f}, with it {tuning.best:.3f}{_gain(tuning)}", values]
    if tuning.best <= tuning.before:
        lines.append("The CRF does not help on the validation part: no trial beat the masks without it.")
    folder = run.folder
    state = "on" if run.inference.crf.enabled else "off"
    lines.append(f"kept in {folder / 'tuned.json'}, every trial in {folder / 'tuning' / 'crf.csv'}")
    lines.append(f"The CRF itself is {state}, as before; score it on the test part: ustoolkit evaluate {folder} --crf")
    return _result(run, tuning, "crf"), "\n".join(lines)


def tune_threshold(options: argparse.Namespace) -> Outcome:
    """Searches the threshold."""
    run, records = _opened(options)
    from ustoolkit.inference.tune import tune_threshold

    tuning = tune_threshold(run, records)
    threshold, own = tuning.values["threshold"], run.recipe.inference.threshold
    folder = run.folder
    lines = [
        f"validation Dice with the recipe's threshold {own:g}: {tuning.before:.3f}, with {threshold:g}: "
        f"{tuning.best:.3f}{_gain(tuning)}",
        f"kept in {folder / 'tuned.json'}, every threshold in {folder / 'tuning' / 'threshold.csv'}",
        f"Score it on the test part: ustoolkit evaluate {folder}; an export made before has the old threshold.",
    ]
    crf = run.tuned["evidence"].get("crf")
    if crf and not run.inference.crf.enabled and crf.get("otherwise", {}).get("threshold") != threshold:
        lines.append(f"The CRF was tuned with another threshold; tune it again: ustoolkit tune-crf {folder}")
    return _result(run, tuning, "threshold"), "\n".join(lines)


def _opened(options: argparse.Namespace) -> "tuple[Run, Records]":
    from ustoolkit.data.records import records_of
    from ustoolkit.run import Run

    run = Run(options.run_folder)
    for warning in run.state.get("warnings", ()):
        warn(warning)
    return run, records_of(run, options.records)


def _gain(tuning: "Tuning") -> str:
    """The difference in brackets, said to be of images that the best was chosen on, since that flatters."""
    found = tuning.difference
    interval = f", 95 % {found.interval_low:+.3f} to {found.interval_high:+.3f}" if found.groups > 1 else ""
    return f" ({found.mean:+.3f}{interval}; chosen on these {tuning.images} images)"


def _result(run: "Run", tuning: "Tuning", name: str) -> dict[str, Any]:
    return {"run": str(run.folder), "tuned": tuning.values, **run.tuned["evidence"][name]}
