"""Notebooks: those committed show what they were run for, and all of them run."""

import ast
import importlib.util
import re
import shutil
import socket
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [
    "01_data_set",
    "02_records_and_augmentation",
    "03_training_and_curves",
    "04_evaluation",
    "05_classification",
    "06_what_layers_learned",
    "07_downstream_app",
]
LARGEST_BYTES = 300_000
CELL_SECONDS = 600  # a whole notebook takes a minute or two on two free cores; the rest is for machines under load
# Addresses and folders of a container begin like a machine's paths, and are the same everywhere.
ROUTES = ("/v1/", "/models/", "/proc/")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    """The cells that hold code."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and cell.source]


def syntax_trees(path):
    """The code of each cell, with commands and magics turned to calls."""
    return [ast.parse(TransformerManager().transform_cell(cell.source)) for cell in code_cells(path)]


def absolute_paths(text):
    """What begins at the root of a machine's files, addresses of a server apart."""
    found = re.findall(r"(?<![\w.:/}~\\<-])(?:/[\w.-]+/[\w./-]*|[A-Z]:\\\w+)", text)
    return [path for path in found if not path.startswith(ROUTES)]


def test_they_are_there_and_listed_in_the_order_of_the_work():
    assert [path.stem for path in NOTEBOOKS] == NAMES
    table = [line for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    assert [re.findall(r"\[(\w+)\]\((\S+)\)", line) for line in table] == [[(name, f"{name}.ipynb")] for name in NAMES]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("saved in /home/someone/runs/fast", ["/home/someone/runs/fast"]),
        ('"/tmp/abc/model"', ["/tmp/abc/model"]),
        ("C:\\Users", ["C:\\Users"]),
        ("model/1/saved_model.pb, ./a/b, grey and/or red", []),
        ("http://127.0.0.1:8501/v1/models/lesion and {address}/v1/models/lesion", []),
    ],
)
def test_paths_of_a_machine_are_told_from_others(text, found):
    assert absolute_paths(text) == found


@each_notebook
def test_it_was_run_from_top_to_bottom_without_an_error(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) or "image/jpeg" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@each_notebook
def test_it_calls_what_there_is_and_defines_nothing(path):
    nodes = [node for tree in syntax_trees(path) for node in ast.walk(tree)]
    assert not [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imports += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert any(name.startswith("ustoolkit") for name in imports)
    assert not [name for name in imports if importlib.util.find_spec(name) is None]


@each_notebook
def test_it_is_small(path):
    assert path.stat().st_size < LARGEST_BYTES


@each_notebook
def test_it_shows_phantoms_and_nothing_of_the_machine_that_ran_it(path):
    tree = syntax_trees(path)[0]
    given = {target.id: node.value.value for node in tree.body for target in node.targets}
    assert given and not any(given.values()), "committed with a folder of one's own, whose images may be of patients"
    shown = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in shown.cells]
    for output in (output for cell in code_cells(path) for output in cell.outputs):
        texts += [
            output.get("text", ""),
            *(str(v) for kind, v in output.get("data", {}).items() if "image" not in kind),
        ]
    assert not [found for text in texts for found in absolute_paths(text)]


@pytest.mark.slow
@each_notebook
def test_it_runs_and_leaves_nothing_behind(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    if "!curl" in nbformat.writes(notebook) and shutil.which("curl") is None:
        pytest.skip("no curl, which it calls")
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    # Without folders to look in, the one kernel that is left is that of this Python.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), shutdown_wait_time=60)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, km=kernel, timeout=CELL_SECONDS, resources=where)
    client.execute(cleanup_kc=True)  # raises where a cell fails; TensorFlow removes its own files when the kernel ends
    assert not [*folder.iterdir(), *temporary.iterdir()]
    text = nbformat.writes(notebook)
    for port in set(re.findall(r"serving \S+ version \d+, at http://127\.0\.0\.1:(\d+)/", text)):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", int(port))) != 0, "its server outlived it"
