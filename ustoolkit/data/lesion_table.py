"""Measurements of many lesions, one row each, taken in processes."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from ustoolkit.data.features import lesion_features
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.processes import available_cores, mapped
from ustoolkit.progress import progress

_NO_POOL = 32  # images, as many as are diagnosed at a time, which are measured before processes have started


def measure_lesions(
    samples: Iterable[Sample], masks: Iterable[np.ndarray], families: Sequence[str], count: int, workers: int = 0
) -> np.ndarray:
    """Measures the lesion of each image.

    Args:
        samples: the images.
        masks: for each uint8 (height, width), not 0 where the lesion is.
        families: of measurements, as `ustoolkit.data.features.lesion_features` takes them.
        count: how many images there are.
        workers: processes; 0 for one a core.
    Returns:
        float32 (n, measurements), in the order of `ustoolkit.data.features.feature_names`.
    Raises:
        DataError: a mask is empty; the message names the image.
    """
    jobs = (
        (sample.source_id, sample.image, mask, tuple(families)) for sample, mask in zip(samples, masks, strict=True)
    )
    return np.array(list(progress(_measured(jobs, count, workers), "measuring", total=count)), np.float32)


def _measured(jobs: Iterator[tuple], count: int, workers: int) -> Iterator[list[float]]:
    workers = min(workers or available_cores(), count)
    if workers < 2 or count <= _NO_POOL:
        yield from map(_measure, jobs)
        return
    try:
        yield from mapped(_measure, jobs, workers)
    except (BrokenProcessPool, MemoryError):
        raise DataError(
            f"one of {workers} processes that measure lesions was ended by the system, mostly for want of memory. Run "
            "this again on fewer images at a time, or with more memory."
        ) from None


def _measure(job: tuple[str, np.ndarray, np.ndarray, tuple[str, ...]]) -> list[float]:
    source_id, image, mask, families = job
    try:
        return list(lesion_features(image, mask, families).values())
    except DataError as problem:
        raise DataError(f"{source_id}: {problem}") from None
