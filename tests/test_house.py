"""The layout: layers that import downwards only, light imports, names that say something."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from ustoolkit.evaluation import METRICS
from ustoolkit.models import MODELS
from ustoolkit.recipe import NetworkSettings, load_recipe, shipped_recipes
from ustoolkit.recipe.training import LossName
from ustoolkit.training.losses import LOSSES

ROOT = Path(__file__).parent.parent


def test_layers_import_downwards_only():
    script = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename='setup.cfg'))"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    "module",
    [
        "ustoolkit.data.records",
        "ustoolkit.data.readers",
        "ustoolkit.data.split",
        "ustoolkit.data.expand",
        "ustoolkit.data.annotations",
        "ustoolkit.data.audit",
        "ustoolkit.data.phantom",
        "ustoolkit.evaluation.tables",
        "ustoolkit.inference.crf",
        "ustoolkit.inference.litert_segmenter",
        "ustoolkit.recipe",
        "ustoolkit.report.html",
        "ustoolkit.run",
    ],
)
def test_stages_without_a_network_do_without_tensorflow(module):
    script = f"import sys, {module}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_importing_the_package_leaves_numpy_as_it_was():
    script = (
        "import numpy as np\nbefore = hasattr(np, 'sctypes')\nimport ustoolkit.data.augment\n"
        "import sys; sys.exit(hasattr(np, 'sctypes') != before)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_registries_hold_what_settings_name():
    networks = {
        name for kind in get_args(NetworkSettings) for name in get_args(kind.model_fields["name"].annotation)
    } - {"lesion_features"}
    assert set(MODELS) == networks, "`MODELS` of models/network_builders.py and `NetworkSettings` of recipe/networks.py"
    assert set(LOSSES) == set(get_args(LossName)), "`LOSSES` of training/losses.py and `LossName` of recipe/training.py"


def test_registries_hold_what_recipes_name():
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert recipe.model.name in {*MODELS, "lesion_features"} and set(recipe.loss.terms) <= set(LOSSES)
        assert recipe.name == name and recipe.description
    assert {"dice", "iou", "pixel_accuracy", "sensitivity", "specificity"} <= set(METRICS)


def test_modules_are_named_for_what_they_hold_and_stay_readable():
    for path in (ROOT / "ustoolkit").rglob("*.py"):
        assert path.stem not in {"utils", "util", "helpers", "misc", "common"}, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, f"{path}: two ideas in one file?"


def test_every_public_function_says_what_it_does():
    import ast

    silent = []
    for path in (ROOT / "ustoolkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if named and not ast.get_docstring(node) and getattr(node, "col_offset", 0) == 0:
                silent.append(f"{path.name}: {node.name}")
    assert not silent
