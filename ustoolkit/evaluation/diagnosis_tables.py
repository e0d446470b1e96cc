"""What an evaluation of a classifier leaves behind, read back: its scores, and the probabilities of each image."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.errors import RunError
from ustoolkit.files import read_json

_REMEDY = "Evaluate again."
_SETTINGS = ("threshold", "temperature", "part")


@dataclass(frozen=True, eq=False)
class Probabilities:
    """A table of probabilities, of images or of patients.

    Attributes:
        names: of the images or patients.
        patients: of each.
        truth: label of each.
        called: label that was decided on, of each.
        probability: float64 (n, labels), the positive label's last.
    """

    names: list[str]
    patients: list[str]
    truth: list[str]
    called: list[str]
    probability: np.ndarray


def read_diagnosis(folder: Path) -> dict[str, Any]:
    """The scores of an evaluation: labels, settings, and by_image and by_patient as `diagnosis` gives them.

    Args:
        folder: of the evaluation.
    Raises:
        RunError: `metrics.json` is missing or damaged.
    """
    path = folder / "metrics.json"
    content = read_json(path, RunError, _REMEDY)
    whole = isinstance(content, dict) and {"labels", "settings", "by_image", "by_patient"} <= set(content)
    if not whole or not set(_SETTINGS) <= set(content["settings"]):
        raise RunError(f"{path}: expected the scores of a classifier, found something else. {_REMEDY}")
    return content


def read_probabilities(folder: Path, unit: str) -> Probabilities:
    """The probabilities that an evaluation wrote.

    Args:
        folder: of the evaluation.
        unit: 'image' or 'patient'.
    Raises:
        RunError: the table is missing or damaged.
    """
    path = folder / f"per_{unit}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [name for name in rows[0] if name.startswith("probability_")]
        first = "source_id" if unit == "image" else "patient_id"
        return Probabilities(
            [row[first] for row in rows],
            [row["patient_id"] for row in rows],
            [row["label"] for row in rows],
            [row["predicted"] for row in rows],
            np.array([[float(row[name]) for name in columns] for row in rows]),
        )
    except FileNotFoundError:
        raise RunError(f"{path}: no such file. {_REMEDY}") from None
    except (OSError, IndexError, KeyError, ValueError, TypeError) as problem:
        raise RunError(f"{path}: expected a table of probabilities ({problem!r}). {_REMEDY}") from None
