"""The options of commands that compare: studies, and tests of one set of runs against another."""

import argparse
from collections.abc import Callable
from pathlib import Path

from ustoolkit import commands
from ustoolkit.options import count

Command = Callable[[str, Callable[[argparse.Namespace], commands.Outcome], str], argparse.ArgumentParser]


def comparisons(command: Command) -> None:
    """All of them."""
    for group in (_study, _compare):
        group(command)


def _study(command: Command) -> None:
    """Recipes side by side."""
    added = command("study", commands.study, "repeat a comparison: train, score and set side by side several recipes")
    added.add_argument(
        "study",
        metavar="NAME",
        help="unet: noise, scales, losses, lightness; deeplab: FCN, DeepLab, CRF; classification: networks, transfers, "
        "fusions; leakage: what splits that ignore patients do",
    )
    added.add_argument("--records", type=Path, required=True, metavar="DIR", help="records folder")
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of runs and tables")
    added.add_argument("--overwrite", action="store_true", help="train again what differs from what is asked now")
    added.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.json in the records folder")
    added.add_argument(
        "--pretraining-records", type=Path, metavar="DIR", help="natural images, split, for arms that start from them"
    )
    added.add_argument("--preview", action="store_true", help="each recipe's preview: to try the study, not to judge")
    added.add_argument("--seeds", type=count, default=3, metavar="N", help="runs of each arm (default: 3)")
    added.add_argument("--jobs", type=count, default=0, metavar="N", help="runs at a time (default: one a core)")
    added.add_argument("--only", nargs="+", default=[], metavar="ARM", help="train these arms only")
    added.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting of every arm")


def _compare(command: Command) -> None:
    """What was scored, tested."""
    added = command("compare", commands.compare, "test whether one classifier is better than another, paired")
    added.add_argument("first", type=Path, metavar="RUN", help="evaluated run or fusion, or a folder of an evaluation")
    added.add_argument("second", type=Path, metavar="RUN", help="the other one")
    added.add_argument("--split", default="test", metavar="PART", help="evaluation to compare (default: test)")
