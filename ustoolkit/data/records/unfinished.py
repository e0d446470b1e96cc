"""A conversion under way, in a folder beside the final one: what is finished in it, and whether it can go on."""

import contextlib
import json
import mmap
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from ustoolkit.data.records.folder import MANIFEST_FILE, file_checksum
from ustoolkit.data.records.identity import entries_digest
from ustoolkit.data.records.shard import ShardTask
from ustoolkit.errors import RecordsError
from ustoolkit.files import LOCK_FILE, check_replaceable, locked_folder, put_in_place, write_json

_PLAN = "plan.json"


class Unfinished:
    """The folder `.NAME.partial` beside the folder NAME that is to be.

    Attributes:
        folder: the partial one; `plan.json` says what is converted.
        shards: folder within it that becomes the final one.
        sidecars: folder within it for what is known of each finished shard.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f".{out.name}.partial")
        self.shards = self.folder / "records"
        self.sidecars = self.folder / "sidecars"
        self._out = out

    def check_free(self, overwrite: bool) -> None:
        """Raises OutputError unless the final folder is free, or holds records that may be replaced."""
        check_replaceable(self._out, overwrite, owned_by=MANIFEST_FILE)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the folder for this process, and afterwards as it is if a shard was finished, for the next try.

        Raises:
            OutputError: another process converts into the same folder, or nothing can be written there.
        """
        refusal = f"{self._out}: another conversion is writing there. Wait for it, or choose another --out."
        with locked_folder(self.folder, refusal):
            try:
                yield
            finally:
                if not any(self.sidecars.glob("*.json")):
                    self.remove()

    def prepare(self, plan: dict[str, Any], tasks: Sequence[ShardTask]) -> tuple[list[ShardTask], str]:
        """Takes up what an interrupted conversion left, if it was this one.

        Args:
            plan: what makes it this one; JSON.
            tasks: all shards.
        Returns:
            the shards still to be written; and what there is to tell the user, '' for nothing.
        """
        left = len(list(self.sidecars.glob("*.json")))
        same = _read(self.folder / _PLAN) == plan
        kept: list[ShardTask] = []
        message = ""
        if left and not same:
            message = "an interrupted conversion of other images or by other settings was there; this starts afresh."
        elif left:
            kept = [task for task in tasks if is_finished(task)]
            message = f"going on with an interrupted conversion: {len(kept)} of {len(tasks)} shards are kept."
            if len(kept) < left:
                message += f" {left - len(kept)} are made again, since they or their images have changed."
        files = {path for task in kept for path in (task.shard, task.sidecar, task.fingerprints)}
        self._clear(
            files | ({self.folder / _PLAN} if same else set())
        )  # before the new plan, which would vouch for them
        write_json(self.folder / _PLAN, plan)
        self.shards.mkdir(exist_ok=True)
        self.sidecars.mkdir(exist_ok=True)
        done = {task.name for task in kept}
        return [task for task in tasks if task.name not in done], message and f"{self._out}: {message}"

    def finish(self, overwrite: bool) -> None:
        """Puts the records where they should be, and removes the rest.

        Args:
            overwrite: whether records that are there by now may be replaced.
        """
        for path in self.shards.glob(".*"):  # a worker's that was lost, or tried twice
            path.unlink()
        self.check_free(overwrite)
        put_in_place(self.shards, self._out)
        self.remove()

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self, kept: set[Path]) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in kept and path.name != LOCK_FILE:
                path.unlink()


def is_finished(task: ShardTask) -> bool:
    """Whether a shard is written and sound, and the files that it was made from are as they were."""
    about = _read(task.sidecar)
    try:
        files = {task.shard: about["shard"], task.fingerprints: about["fingerprints"]}
        return about["sources"] == entries_digest(task.entries) and all(
            path.stat().st_size == known["bytes"] and file_checksum(path) == known["sha256"]
            for path, known in files.items()
        )
    except (OSError, RecordsError, KeyError, TypeError):
        return False


def read_sidecar(task: ShardTask) -> dict[str, Any]:
    """What a worker said of a shard.

    Raises:
        RecordsError: it is not there, though the worker came to its end.
    """
    about = _read(task.sidecar)
    if about is None:
        raise RecordsError(
            f"{task.sidecar}: expected what a worker wrote there, found nothing. All workers must see this folder "
            "under this name; choose an --out that they share."
        )
    return about


class Fingerprints(Sequence[bytes]):
    """The fingerprints of all images, left on disk until they are asked for: of 100,000 images they are 0.4 GB."""

    def __init__(self, path: Path, files: Sequence[Path], lengths: Sequence[int]) -> None:
        """Joins the files of the shards.

        Args:
            path: file to make.
            files: of the shards, in order.
            lengths: of each fingerprint, bytes.
        """
        with path.open("wb") as joined:
            for file in files:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, joined)
        self._ends = [0]
        for length in lengths:
            self._ends.append(self._ends[-1] + length)
        with path.open("rb") as joined:
            self._content: Any = mmap.mmap(joined.fileno(), 0, access=mmap.ACCESS_READ) if self._ends[-1] else b""

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> bytes: ...

    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...

    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self._content[self._ends[number] : self._ends[number + 1]]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
