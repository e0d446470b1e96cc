"""What each command does: read the options, call the stage, say what came out. Stages are imported when called."""

from ustoolkit.commands.classification import fuse
from ustoolkit.commands.comparing import compare
from ustoolkit.commands.console import Outcome
from ustoolkit.commands.data_sets import annotations, clean, inspect, phantom, records
from ustoolkit.commands.diagnosis import diagnose
from ustoolkit.commands.explanation import explain
from ustoolkit.commands.exports import export, serve
from ustoolkit.commands.networks import evaluate, models, predict, report
from ustoolkit.commands.parts import expand, split
from ustoolkit.commands.protocols import audit_protocol
from ustoolkit.commands.search import tune
from ustoolkit.commands.studies import cross_validate, study
from ustoolkit.commands.training import train
from ustoolkit.commands.tuning import tune_crf, tune_threshold

__all__ = [
    "Outcome",
    "annotations",
    "audit_protocol",
    "clean",
    "compare",
    "cross_validate",
    "diagnose",
    "evaluate",
    "expand",
    "explain",
    "export",
    "fuse",
    "inspect",
    "models",
    "phantom",
    "predict",
    "records",
    "report",
    "serve",
    "split",
    "study",
    "train",
    "tune",
    "tune_crf",
    "tune_threshold",
]
