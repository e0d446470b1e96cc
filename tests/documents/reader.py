"""A page followed as a reader would: in a folder that holds what one has by then, each block typed as it is written.

Bash runs all blocks of a page in one go and stops at the first command that fails. Four things differ from a reader's
desk, so that a page takes minutes: `ustoolkit` adds words that make it small (`tests.documents.small`), port 8501 is
one that is free, `.venv` holds the tests' own Python, and `labelme`, where a person would correct outlines, leaves them
as they are.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.documents.markdown import ROOT, Block, Page
from tests.documents.small import end_server
from tests.documents.warm import Warm

_LIMIT_SECONDS = 1800


def _trained(recipe: str, run: str, *words: str) -> str:
    return (
        f"ustoolkit train {' '.join([recipe, *words])} --records data/records --out {run} && ustoolkit evaluate {run}"
    )


# What pages begin with: how it is made, by commands that run in the shelf's folder, and what has to be there before.
SHELF = {
    "phantoms": ("ustoolkit phantom --out phantoms --count 54 --seed 3",),
    "images": ("mkdir images && cp phantoms/images/phantom_000[0-3].png images", "phantoms"),
    "more": ("mkdir more && cp phantoms/images/phantom_0011.png more", "phantoms"),
    "scan.png": ("cp phantoms/images/phantom_0007.png scan.png", "phantoms"),
    "data/records": ("ustoolkit records phantoms --out data/records", "phantoms"),
    "data/cross-fold1.json": (
        "ustoolkit split data/records --folds 3 --keep-test data/records/splits.json --out data/cross.json",
        "data/records",
    ),
    "runs/fast": (_trained("fast", "runs/fast"), "data/records"),
    "runs/tuned": (_trained("fast", "runs/tuned", "--set training.initial_weights=runs/fast"), "runs/fast"),
    "runs/unet": (_trained("unet", "runs/unet"), "data/records"),
    "runs/lighter": (_trained("lighter_unet_128", "runs/lighter", "--preview"), "data/records"),
    "runs/natural": (_trained("ronneberger_unet", "runs/natural"), "data/records"),
    **{
        f"runs/fold{fold}": (
            f"ustoolkit train fast --records data/records --splits data/cross-fold{fold}.json --out runs/fold{fold}",
            "data/cross-fold1.json",
        )
        for fold in (1, 2, 3)
    },
    "runs/features": (_trained("lesion_features", "runs/features"), "data/records"),
    "runs/fast_classifier": (_trained("fast_classifier", "runs/fast_classifier"), "data/records"),
    "runs/fused": (
        "ustoolkit fuse runs/fast_classifier runs/features --out runs/fused && ustoolkit evaluate runs/fused",
        "runs/fast_classifier",
        "runs/features",
    ),
}


class Shelf:
    """What pages begin with, each made when it is first asked for, by the commands themselves.

    Attributes:
        folder: where it lies.
        warm: what runs the commands.
    """

    def __init__(self, folder: Path, warm: Warm) -> None:
        """An empty shelf."""
        self.folder, self.warm = folder, warm
        self._made: set[str] = set()

    def lay_out(self, beginning: dict[str, str], folder: Path) -> None:
        """Copies what a page begins with, given as things of the shelf by their place, into its folder."""
        for place, item in beginning.items():
            self._make(item)
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (self.folder / item).is_dir() else shutil.copy
            copy(self.folder / item, folder / place)
        for state in folder.rglob("*.json"):  # runs name their records, and fusions their runs, by their whole paths
            state.write_text(state.read_text().replace(f'"{self.folder}/', f'"{folder}/'))

    def _make(self, item: str) -> None:
        script, *needs = SHELF[item]
        for needed in needs:
            self._make(needed)
        if item not in self._made:
            self.folder.mkdir(exist_ok=True)
            failure = follow([Block(f"shelf: {item}", "sh", script, None)], self.folder, self.warm)
            assert not failure, failure
            self._made.add(item)


def follow(blocks: list[Block], folder: Path, warm: Warm | None = None) -> str | None:
    """Runs blocks in a folder, one after the other; `warm` runs what they have of our commands.

    Returns:
        the place of the block that failed and the end of what was printed; None where all went well.
    """
    tools = _tools(folder.with_name(f"{folder.name}-tools"))
    if not (folder / ".venv").exists():
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(tools / "bin")
    port = _free_port()
    script = ["set -eo pipefail"]
    for number, block in enumerate(blocks):
        script.append(f"echo '@@ {block.place}'")
        text = block.text.replace("8501", str(port))
        if block.language == "python":
            (tools / f"{number}.py").write_text(text)
            text = f"python '{tools / f'{number}.py'}'"
        script.append(text)
    (tools / "page.sh").write_text("\n".join(script) + "\n")
    shown = tools / "output"
    with shown.open("w") as output:
        bash = subprocess.Popen(
            ["bash", tools / "page.sh"],
            cwd=folder,
            env={**_environment(tools, port), "PAGE_WARM": str(warm.address if warm else "")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            bash.wait(_LIMIT_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(bash.pid, signal.SIGKILL)
            bash.wait()
            end_server(tools)
    printed = shown.read_text(errors="replace")
    if bash.returncode == 0:
        return None
    place = printed.rpartition("@@ ")[2].partition("\n")[0]
    return f"{place}, exit code {bash.returncode}:\n{printed[-4000:]}"


def runnable(page: Page) -> list[Block]:
    """The blocks of a page that are run."""
    return [block for block in page.blocks if block.language in {"sh", "python"} and block.not_run is None]


def _tools(folder: Path) -> Path:
    """The folder with what stands on a page's PATH, outside of its own."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for name, line in {
        "ustoolkit": f'exec "{sys.executable}" -m tests.documents.small "$@"',
        "python": f'exec "{sys.executable}" "$@"',
        "labelme": '[ -d "$1" ]',
    }.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "bin" / "activate").write_text(f'PATH="{folder / "bin"}:$PATH"\n')
    return folder


def _environment(tools: Path, port: int) -> dict[str, str]:
    path = os.pathsep.join([str(tools / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    unset = ("TF_CONFIG", "USTOOLKIT_TEST_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("PYTEST")}
    return {
        **kept,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "PAGE_TOOLS": str(tools),
        "PAGE_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
