"""The options of commands that compare: studies, and tests of one set of runs against another."""

import argparse
from collections.abc import Callable
from pathlib import Path

from ustoolkit import commands
from ustoolkit.options import count, positive

Command = Callable[[str, Callable[[argparse.Namespace], commands.Outcome], str], argparse.ArgumentParser]


def comparisons(command: Command) -> None:
    """All of them."""
    for group in (_study, _cross_validate, _compare, _tune, _audit_protocol):
        group(command)


def _study(command: Command) -> None:
    """A published study."""
    added = command("study", commands.study, "repeat a published study: train, score and set side by side")
    added.add_argument(
        "study",
        metavar="NAME",
        help="lymph-node: noisy U-nets, classifiers, fusions; deeplab: FCN, DeepLab, preparation, CRF; light-unet: "
        "lightness, tuning step by step; fine-tuning: which layers; fast: what the fast recipes are made of",
    )
    _runs(added)
    added.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.json in the records folder")
    _pretraining(added)
    added.add_argument(
        "--second-records", type=Path, metavar="DIR", help="other images, which fine-tuning is repeated on"
    )
    added.add_argument(
        "--seeds", type=count, metavar="N", help="runs of each arm (default: 3; of fine-tuning and fast 1)"
    )
    added.add_argument("--folds", type=count, metavar="K", help="by patient (default: the split; of fine-tuning 5)")
    added.add_argument("--only", nargs="+", default=[], metavar="ARM", help="these arms only, such as unet or 'relu-*'")


def _cross_validate(command: Command) -> None:
    """Recipes over folds."""
    added = command(
        "cross-validate", commands.cross_validate, "train recipes once a fold by patient; score every image"
    )
    added.add_argument("recipes", nargs="+", metavar="RECIPE", help="name or file; others are compared with the first")
    _runs(added)
    added.add_argument("--folds", type=count, default=5, metavar="K", help="by patient (default: 5)")
    added.add_argument("--seeds", type=count, default=1, metavar="N", help="runs of each fold (default: 1)")
    added.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="groups: label, size, or attributes (default: all there are)",
    )


def _audit_protocol(command: Command) -> None:
    """Leaks shown."""
    added = command(
        "audit-protocol",
        commands.audit_protocol,
        "show what image-wise splits, and copies made before the split, do to scores",
    )
    _runs(added)
    added.add_argument("--splits", type=Path, metavar="FILE", help="by patient (default: splits.json of the records)")
    _pretraining(added)
    added.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="NAME",
        help="audit this recipe, by name or file; may be repeated (default: a U-net, a ResNet50, lesion features)",
    )
    added.add_argument("--seeds", type=count, default=3, metavar="N", help="runs of each arm (default: 3)")
    added.add_argument("--only", nargs="+", default=[], metavar="ARM", help="these arms only, such as 'unet-*'")


def _runs(added: argparse.ArgumentParser) -> None:
    """What is trained on, where to, and how."""
    added.add_argument("--records", type=Path, required=True, metavar="DIR", help="records folder")
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of runs and tables")
    added.add_argument("--overwrite", action="store_true", help="train again what differs from what is asked now")
    added.add_argument("--preview", action="store_true", help="each recipe's preview: to try it, not to judge by")
    added.add_argument("--jobs", type=count, default=0, metavar="N", help="runs at a time (default: one a core)")
    added.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting of every run")


def _pretraining(added: argparse.ArgumentParser) -> None:
    """Images to begin with."""
    added.add_argument(
        "--pretraining-records", type=Path, metavar="DIR", help="natural images, split, for arms that start from them"
    )


def _compare(command: Command) -> None:
    """What was scored, tested."""
    added = command("compare", commands.compare, "test whether one method is better than another, on the same images")
    added.add_argument(
        "first",
        type=Path,
        metavar="A",
        help="what the others are compared with: an evaluated run or fusion, a folder of an evaluation, or a folder of "
        "the runs of one method, such as its seeds or folds",
    )
    added.add_argument("others", type=Path, nargs="+", metavar="B", help="the same of others")
    added.add_argument("--out", type=Path, metavar="DIR", help="folder to make, for tables and figures")
    added.add_argument("--overwrite", action="store_true", help="replace what an earlier call left there")
    added.add_argument("--split", default="test", metavar="PART", help="evaluation to compare (default: test)")
    added.add_argument(
        "--metrics", nargs="+", default=[], metavar="M", help="default: dice, distance, pixel error, Rand; Brier score"
    )
    added.add_argument(
        "--by", nargs="+", default=[], metavar="WHAT", help="groups: label, size, attributes (default: all there are)"
    )
    added.add_argument("--records", type=Path, metavar="DIR", help="where the records are now, if they were moved")


def _tune(command: Command) -> None:
    """Settings side by side."""
    added = command("tune", commands.tune, "search settings of a recipe by its score on the validation part")
    added.add_argument("recipe", metavar="RECIPE", help="TOML file, or the name of a shipped recipe")
    added.add_argument("--records", type=Path, required=True, metavar="DIR", help="records folder")
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of trials and results")
    added.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.json in the records folder")
    added.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="KEY=SPEC",
        help="what to try: 'training.learning_rate=1e-4..1e-2', 'training.weight_decay=1e-2|1e-3|0' (default: rate, "
        "decay, batch, dropout, loss, augmentation)",
    )
    added.add_argument(
        "--minutes", type=positive, default=30.0, metavar="N", help="for all trials together (default: 30)"
    )
    added.add_argument("--trials", type=count, default=0, metavar="N", help="at most (default: as time allows)")
    added.add_argument("--jobs", type=count, default=0, metavar="N", help="trials at a time (default: one a core)")
    added.add_argument("--preview", action="store_true", help="the recipe's preview")
    added.add_argument("--seed", type=count, default=0, metavar="S", help="of what is tried (default: 0)")
    added.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting of every trial")
