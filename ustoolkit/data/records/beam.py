"""Shards converted by an Apache Beam pipeline: on a cluster, or to try it, on this machine.

Needs the extra `beam`. Workers must see the images and the output folder under the same names as the process that
starts the pipeline; that process writes the index and the manifest in the end.
"""

import contextlib
import io
import logging
import pickle
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from ustoolkit.data.records.shard import ShardTask, convert_shard
from ustoolkit.data.records.workers import Engine
from ustoolkit.errors import RecordsError

_LOCAL = (None, "DirectRunner", "FnApiRunner")


def beam_engine(flags: Sequence[str] = (), workers: int = 0) -> Engine:
    """A pipeline that converts each shard once.

    Args:
        flags: Beam's pipeline options, such as `--runner=FlinkRunner`; without a runner it runs in this process.
        workers: what the user asked for; anything but 0 is refused, since here the runner's options tell.
    Raises:
        RecordsError: Beam is not installed, or does not know an option.
    """
    if workers:
        raise RecordsError(
            "--workers counts the processes of this machine; with --engine beam the runner's options do, such as "
            "--direct_num_workers 2 --direct_running_mode multi_processing. Leave out --workers."
        )
    options = _options(flags)

    def convert(tasks: Sequence[ShardTask]) -> Iterator[None]:
        if tasks:
            _run(tasks, options)
        for _ in tasks:
            yield

    return convert


class SharedStorage:
    """Beam's file systems, as a worker finds them."""

    def create(self, path: str) -> BinaryIO:
        """Opens a new file."""
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)

    def rename(self, old: str, new: str) -> None:
        """Renames a file, over one that is there."""
        from apache_beam.io.filesystems import FileSystems

        FileSystems.rename([old], [new])


def _options(flags: Sequence[str]) -> Any:
    with _quiet():
        try:
            from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        except ImportError:
            raise RecordsError(
                "--engine beam: Apache Beam is not installed. Install it with: pip install 'ustoolkit[beam]'"
            ) from None
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                options = PipelineOptions(list(flags))
                known = options.get_all_options()
        except SystemExit:  # as a command line's parser does
            reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
            raise RecordsError(f"--engine beam: Beam does not take {' '.join(flags)}: {reason}. Correct it.") from None
        given = options.get_all_options(retain_unknown_options=True)
    runner = options.view_as(StandardOptions).runner
    unknown = sorted(set(given) - set(known))
    stray = [flag for flag in flags[:1] if not flag.startswith("-")]
    if runner in _LOCAL and (unknown or stray):  # a cluster's own runner may know more
        named = f"--{unknown[0]}" if unknown else stray[0]
        raise RecordsError(f"--engine beam: neither ustoolkit nor Beam knows the option {named}. Correct or remove it.")
    return options


def _run(tasks: Sequence[ShardTask], options: Any) -> None:
    with _quiet():
        import apache_beam as beam
        from apache_beam.options.pipeline_options import StandardOptions

    runner = options.view_as(StandardOptions).runner
    if runner in _LOCAL:
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        runner = FnApiRunner()  # where 'DirectRunner' is asked for, Beam would first fetch another one from the net
    work = [zlib.compress(pickle.dumps(task)) for task in tasks]  # paths resemble each other: a twentieth is left
    try:
        pipeline = beam.Pipeline(runner=runner, options=options)
        _ = pipeline | "shards" >> beam.Create(work) | beam.Reshuffle() | "convert" >> beam.Map(_convert)
        pipeline.run().wait_until_finish()
    except Exception as problem:  # runners raise what they like
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[-1].rstrip(".")
        raise RecordsError(
            f"the Beam pipeline failed: {reason}. Run this again when that is mended; it goes on with the shards "
            "that are finished."
        ) from problem


def _convert(content: bytes) -> None:
    convert_shard(pickle.loads(zlib.decompress(content)), SharedStorage())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Beam warns of every cloud whose library is not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
