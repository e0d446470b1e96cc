"""Writing that never leaves half a result looking whole, and reading that says what is wrong."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ustoolkit.errors import OutputError, UstoolkitError

LOCK_FILE = "lock"


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes a file at once: under a temporary name beside it, then renamed over it.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    path = Path(path)
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_text(path: Path | str, content: str) -> None:
    """Writes UTF-8 text at once; see `write_bytes`."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path | str, content: Any) -> None:
    """Writes indented JSON at once; see `write_bytes`. NaN becomes null, since JSON has none."""
    write_text(path, json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, error: type[UstoolkitError], remedy: str) -> Any:
    """Reads JSON that an earlier stage wrote.

    Args:
        path: the file.
        error: the exception class to raise where it cannot be read.
        remedy: what the user can do then, a whole sentence.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: no such file. {remedy}") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise error(f"{path}: expected JSON, found something else ({problem}). {remedy}") from None


@contextlib.contextmanager
def new_folder(path: Path | str, overwrite: bool = False, owned_by: str = "") -> Iterator[Path]:
    """Yields an empty folder to fill; it takes its final name only when the block ends without an error.

    Args:
        path: the final folder.
        overwrite: whether a folder that is already there may be replaced.
        owned_by: a file name that an old folder must hold to be replaced, so that a mistyped path is never wiped.
    Raises:
        OutputError: the folder exists and may not be replaced, or its parent is not writable.
    """
    path = Path(path).resolve()  # so that a link to a folder is filled, not replaced
    check_replaceable(path, overwrite, owned_by)
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(folder: Path, path: Path) -> None:
    """Gives a finished folder its final name; a folder that has it already is replaced, and kept where that fails.

    Args:
        folder: beside the final one.
        path: the final folder.
    Raises:
        OutputError: the folder cannot be renamed.
    """
    with _output_errors(path):
        if not path.exists():
            folder.replace(path)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
        path.replace(old)
        try:
            folder.replace(path)
        except OSError:
            old.replace(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def locked_folder(folder: Path, refusal: str) -> Iterator[None]:
    """Holds a folder for this process alone; it is made where it is missing.

    The lock ends with the process, however that ends, so nothing stale is left.

    Args:
        folder: may be removed inside the block.
        refusal: the message where another process holds it.
    Raises:
        OutputError: another process holds the folder, or it cannot be made.
    """
    handle = _lock(folder, refusal)
    try:
        yield
    finally:
        os.close(handle)


def check_replaceable(path: Path | str, overwrite: bool, owned_by: str = "") -> None:
    """Raises OutputError unless `path` is free, empty, or ours and allowed to be replaced."""
    path = Path(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path}: expected a folder to write to, found a file. Choose another --out.")
    with _output_errors(path):
        empty = not any(path.iterdir())
    if empty:
        return
    if not overwrite:
        raise OutputError(f"{path}: the folder is not empty. Choose another --out, or add --overwrite to replace it.")
    if owned_by and not (path / owned_by).exists():
        raise OutputError(
            f"{path}: --overwrite only replaces a folder that holds {owned_by}, and this one does not. "
            "Choose another --out."
        )


def check_writable(folder: Path | str) -> None:
    """Makes a folder and tries it, so that a long piece of work does not fail at its end.

    Raises:
        OutputError: it cannot be made or written to.
    """
    folder = Path(folder)
    with _output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        Path(name).unlink()


def safe_name(source_id: str) -> str:
    """A source id as a file name: what joins its folders is spelled '__'."""
    return source_id.replace("/", "__").replace("\\", "__")


def _lock(folder: Path, refusal: str) -> int:
    import fcntl  # not on every system

    path = folder / LOCK_FILE
    while True:
        with _output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # its holder has just removed the folder
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                    return handle
            except BlockingIOError:
                os.close(handle)
                raise OutputError(refusal) from None
            except FileNotFoundError:
                pass
            os.close(handle)


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise OutputError(
            f"{path}: cannot write here ({problem.strerror or problem}). "
            "Choose another --out, or make the folder writable."
        ) from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def without_nan(value: Any) -> Any:
    """The same content with None for NaN, since JSON has none; tuples become lists."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value
