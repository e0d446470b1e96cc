"""Feeds one reader mutated copies of its fixture: `python -m tests.data.fuzz READER COUNT SEED`.

Every mutated folder must be read, or refused with an error of ours, within limits of time and memory. It runs in a
process of its own, so that a crash of a decoder, a hang or a bomb is seen from outside.
"""

import contextlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ustoolkit.data.readers import open_data_set
from ustoolkit.errors import UstoolkitError
from ustoolkit.recipe import DataSetSettings

FILES = Path(__file__).parent.parent / "files"
SECONDS = 20  # far beyond what any tiny folder needs, even on a loaded machine
MEMORY_BYTES = 6 * 2**30
ODD_VALUES: list[Any] = [
    None, True, -1, 0, 10**9, 10**400, -0.5, 1e308, float("nan"), float("inf"), "", " ", "NaN", "../../etc/passwd",
    "/etc/passwd", "C:\\x\\y.png", "a\0b", "é" * 300, [], [[]], [[1]], {}, {"a": []}, [None] * 50, [[1e9, 1e9]] * 9,
]  # fmt: skip
ODD_BYTES = [b"", b"\0", b"\xff" * 9, b"NaN", b"1e999", b"-1", b"999999999999", b'"', b"{", b"[" * 3000, b"\r\n", b";"]


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """Flips, cuts, repeats or inserts bytes in a few places."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8, 40])):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = draw.randrange(256)
        elif kind == 1:
            changed[at:at] = draw.choice(ODD_BYTES)
        elif kind == 2:
            del changed[at : at + draw.randrange(1, 50)]
        elif kind == 3:
            changed[at:at] = changed[at : at + draw.randrange(1, 200)]
        elif draw.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def mutate_json(content: bytes, draw: random.Random) -> bytes:
    """Puts an odd value in the place of one or a few nodes, or takes them away."""
    tree = json.loads(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        places = list(_places(tree))
        if not places:
            break
        holder, key = draw.choice(places)
        if isinstance(holder, dict) and draw.random() < 0.25:
            del holder[key]
        else:
            holder[key] = draw.choice(ODD_VALUES)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Any:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def mutate_folder(folder: Path, draw: random.Random) -> None:
    """Changes one file, seldom two."""
    for _ in range(draw.choice([1, 1, 1, 2])):
        path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        content = path.read_bytes()
        structured = path.suffix == ".json" and draw.random() < 0.7
        try:
            path.write_bytes((mutate_json if structured else mutate_bytes)(content, draw))
        except (ValueError, OverflowError, RecursionError):
            path.write_bytes(mutate_bytes(content, draw))


def read_all(root: Path, name: str) -> tuple[int, int]:
    """Opens a folder by a reader and loads what it finds.

    Returns:
        how many samples were loaded, and how many refused.
    """
    loaded = refused = 0
    try:
        entries = open_data_set(root, DataSetSettings(format=name))
    except UstoolkitError:
        return 0, 1
    for entry in entries:
        try:
            entry.load()
            loaded += 1
        except UstoolkitError:
            refused += 1
    return loaded, refused


def main(name: str, count: int, seed: int) -> None:
    """Prints a JSON line with what happened, or stops at the first folder that is not answered."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("hangs")))
    loaded = refused = 0
    slowest = 0.0
    for number in range(count):
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary) / "set"
            shutil.copytree(FILES / name, root)
            mutate_folder(root, random.Random(f"{seed}/{name}/{number}"))
            signal.alarm(SECONDS)
            started = time.perf_counter()
            try:
                result = read_all(root, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    shutil.copytree(root, Path(tempfile.gettempdir()) / f"fuzz-{name}-{seed}-{number}")
                print(f"{name}, mutation {number} of seed {seed} was not answered", file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - started)
            loaded, refused = loaded + result[0], refused + result[1]
    print(json.dumps({"loaded": loaded, "refused": refused, "slowest_seconds": round(slowest, 2)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
