"""The `ustoolkit` that stands on the PATH of a page: the real one, with words behind those typed that make it small.

Nothing else differs, but that its process is forked from one that has imported TensorFlow (`PAGE_WARM`). `serve`, which
a reader leaves running in another window, goes on in the background until the page ends or serves anew, on the port in
`PAGE_PORT`; its log and its number lie in `PAGE_TOOLS`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.documents.warm import call
from ustoolkit.arguments import build_parser
from ustoolkit.recipe import load_recipe

_TRAINING = ("training.epochs=4", "training.minutes=0", "training.learning_rate=0.01", "training.branches=1")
_DENSENET = ("model.growth_rate=4", "model.initial_filters=8", "model.blocks=[2,2]")
_FEWER_CANDIDATES = ("classification.transfer.estimators=['logistic']", "classification.transfer.inner_folds=2")
# Behind the words of a command: as few repetitions as show that it works.
WORDS = {
    "phantom": ("--size", "64", "64"),
    "tune": ("--trials", "2"),
    "tune-crf": ("--trials", "2", "--images", "4"),
    "cross-validate": ("--folds", "2"),
    "audit-protocol": ("--seeds", "1"),
    "explain": ("--steps", "3", "--filters", "2"),
}
_WAIT_SECONDS = 120


def words_behind(words: list[str]) -> list[str]:
    """What is added to a command to make it small."""
    command = words[0] if words else ""
    added = list(WORDS.get(command, ()))
    if command == "train" and "auto" in words[1:2]:
        return ["--budget", "30s", "--set", "training.epochs=2"]
    if command in {"train", "tune", "cross-validate", "audit-protocol"}:
        options = build_parser().parse_args(words)
        recipes = options.recipes if command == "cross-validate" else options.recipe
        recipe = recipes if isinstance(recipes, str) else (recipes or ["unet"])[0]
        batch = not any(each.startswith("training.replica_batch_size") for each in options.set)
        for setting in small_settings(recipe, options.set, options.preview, batch):
            added += ["--set", setting]
    return added


def small_settings(recipe: str, changes: list[str], preview: bool, batch: bool) -> list[str]:
    """Settings that let a recipe train within moments on 64 × 64 pixels."""
    resolved = load_recipe(recipe, changes, preview)
    name = resolved.model.name
    if name == "lesion_features":
        return list(_FEWER_CANDIDATES)
    sizes = ["data.image_size=[32,32]", *_TRAINING]
    if batch:
        sizes.append("training.batch_size=4")
    if name.startswith("fcn_"):
        return [*sizes, "model.widths=[4,8,8,8,8]", "model.decoder_widths=[8,8,8,4,4]"]
    if "unet" in name:
        grouped = ["model.group_size=2"] if "group_size" in type(resolved.model).model_fields else []
        return [*sizes, "model.widths=[4,8,8]", *grouped]
    if resolved.classifies:
        small_network = _DENSENET if name == "densenet161" else ()
        bottleneck = _FEWER_CANDIDATES if resolved.classification.transfer.form == "bottleneck" else ()
        return [*sizes, *small_network, *bottleneck, "classification.balance.expand_to=0"]
    raise SystemExit(f"{recipe}: tests/documents/small.py has no small settings for the network {name}")


def _serve_behind(words: list[str]) -> int:
    """Starts a server, waits until it answers, and leaves it running."""
    tools = Path(os.environ["PAGE_TOOLS"])
    end_server(tools)
    command = [sys.executable, "-m", "ustoolkit", *words, "--port", os.environ["PAGE_PORT"]]
    log = tools / "server.log"
    with log.open("w") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    (tools / "server").write_text(str(server.pid))
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until and server.poll() is None:
        if "serving " in log.read_text():
            return 0
        time.sleep(0.2)
    print(log.read_text(), file=sys.stderr)
    return 1


def end_server(tools: Path) -> None:
    """Ends the server that a page has left running, where there is one."""
    if (tools / "server").is_file():
        number = int((tools / "server").read_text())
        (tools / "server").unlink()
        try:
            os.kill(number, signal.SIGTERM)
        except ProcessLookupError:
            return
        until = time.monotonic() + _WAIT_SECONDS
        while Path(f"/proc/{number}/stat").is_file() and time.monotonic() < until:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.1)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["serve"]:
        sys.exit(_serve_behind(given))
    sys.exit(call(os.environ["PAGE_WARM"], [*given, *words_behind(given)]))
