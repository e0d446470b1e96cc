"""The fully connected conditional random field, which fits probabilities to the edges of their image. No TensorFlow.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials" (NIPS 2011), by the
pydensecrf of their code; put behind DeepLab by Chen et al. (TPAMI 2018), and so used by the adenomyoma paper (2021).
"""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import chain, islice, repeat, tee

import numpy as np
from pydensecrf.densecrf import DenseCRF2D

from ustoolkit.errors import RunError, ShapeError
from ustoolkit.processes import available_cores, mapped
from ustoolkit.recipe.settings import CrfSettings, InferenceSettings

SMALLEST_PROBABILITY = 1e-5  # what is impossible to the network may still be what the neighbours say
_IMAGES_A_WORKER = 2  # handed out before the first comes back, so that none waits; this bounds the memory

_Task = tuple[np.ndarray, np.ndarray, CrfSettings]  # a probability, its image, and how to refine it


def refine(probability: np.ndarray, image: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Mean-field inference in a dense CRF whose unary term is what the network says.

    The energy of a labelling x is Σi −log p(xi) + Σi<j [xi ≠ xj] (ω1 exp(−|pi − pj|² / 2σp² − |Ii − Ij|² / 2σI²)
    + ω2 exp(−|pi − pj|² / 2σs²)), with positions p in pixels and colours I of RGB values from 0 to 255; in the paper
    σs is σp. As in the authors' code, each kernel is normalised symmetrically, k(i, j) / √(Σj k(i, j) Σi k(i, j)), so
    that ω1 and ω2 bound what all other pixels together can say, whatever the image's size; a pixel counts among its
    own neighbours; and the sums are filtered on a permutohedral lattice, which is near the exact ones and not equal.

    A grey image counts as three equal channels, so that |Ii − Ij|² is three times the square of the grey difference:
    σI of RGB values is σI / √3 of grey ones, 5.8 for the default of 10.

    Args:
        probability: float (height, width, classes), in [0, 1] and 1 in sum over the classes; or with 1 channel, of the
            lesion beside the background.
        image: uint8 (height, width, 1 or 3), which the probability is of.
        settings: weights and deviations; a weight of 0 leaves its term out. `enabled` is not asked.
    Returns:
        float32, in shape and meaning as `probability`, its classes 1 in sum. With both weights 0 it is the probability
        as it was.
    Raises:
        ShapeError: the shapes do not fit, or the image is not uint8.
    """
    _check(probability, image)
    classes = np.array(probability, np.float32)
    if not settings.appearance_weight and not settings.smoothness_weight:
        return classes
    if classes.shape[-1] > 1:
        return _mean_field(classes, image, settings)
    both = np.concatenate([1 - classes, classes], axis=-1)
    return np.ascontiguousarray(_mean_field(both, image, settings)[..., 1:])


def refined(
    probabilities: Iterable[np.ndarray],
    images: Iterable[np.ndarray],
    settings: CrfSettings | Iterable[CrfSettings],
    workers: int = 0,
) -> Generator[np.ndarray]:
    """Refines many images in processes, each equal to the bit to what `refine` returns.

    Processes, since pydensecrf keeps the interpreter's lock to itself. They import no TensorFlow unless the script that
    was started does so outside `if __name__ == "__main__"`. Each takes some 240 MB for an image of 1000 × 1000 and two
    classes. Close the iterator to stop early; then the processes end.

    Args:
        probabilities: those that `refine` takes; read as results are asked for, a few images a process ahead.
        images: the image of each.
        settings: see `refine`; the same for all images, or those of each.
        workers: processes; 1 for this one, 0 for one a core, or this one where there are fewer than two images a core.
    Yields:
        what `refine` returns of each, in order.
    Raises:
        ShapeError: shapes do not fit.
        RunError: a process was ended by the system.
    """
    pairs = zip(probabilities, images, strict=True)
    each = repeat(settings) if isinstance(settings, CrfSettings) else settings
    tasks: Iterator[_Task] = ((*pair, own) for pair, own in zip(pairs, each, strict=False))
    count = workers or available_cores()
    first = list(islice(tasks, _IMAGES_A_WORKER * count))
    too_few = len(first) < (2 if workers else _IMAGES_A_WORKER * count)
    tasks = chain(first, tasks)
    if count == 1 or too_few:
        for task in tasks:
            yield refine(*task)
    else:
        yield from _in_processes(tasks, min(count, len(first)))


def with_and_without(
    probabilities: Iterable[np.ndarray], images: Iterable[np.ndarray], settings: CrfSettings, workers: int = 0
) -> Generator[tuple[np.ndarray, np.ndarray | None]]:
    """Keeps each probability beside what the CRF makes of it, where it is on.

    Args:
        probabilities, images, settings, workers: see `refined`.
    Yields:
        the probability as it was, and the refined one; None where `settings.enabled` is not.
    Raises:
        ShapeError, RunError: see `refined`.
    """
    if not settings.enabled:
        # Images are taken too: where the caller divides one reading, those that nobody takes would all stay in memory.
        for probability, _ in zip(probabilities, images, strict=True):
            yield probability, None
        return
    kept, refinable = tee(probabilities)
    with closing(refined(refinable, images, settings, workers)) as results:
        yield from zip(kept, results, strict=True)


def with_crf(settings: InferenceSettings, crf: bool | None) -> InferenceSettings:
    """The settings with the CRF on or off, its weights and deviations as they were; None leaves it as it is."""
    if crf is None:
        return settings
    return settings.model_copy(update={"crf": settings.crf.model_copy(update={"enabled": crf})})


def _check(probability: np.ndarray, image: np.ndarray) -> None:
    fits = probability.ndim == 3 and image.ndim == 3 and probability.shape[:2] == image.shape[:2]
    if not fits or not probability.size or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
        raise ShapeError(
            f"the probability has the shape {probability.shape} and the image {image.shape} of {image.dtype}; expected "
            "(height, width, classes) and uint8 (height, width, 1 or 3) of the same size. Give the probability at the "
            "image's own size."
        )


def _mean_field(classes: np.ndarray, image: np.ndarray, settings: CrfSettings) -> np.ndarray:
    height, width, count = classes.shape
    field = DenseCRF2D(width, height, count)
    energy = -np.log(np.clip(classes, SMALLEST_PROBABILITY, 1))
    field.setUnaryEnergy(np.ascontiguousarray(energy.reshape(-1, count).T, np.float32))
    near = settings.position_deviation
    if settings.appearance_weight:
        colours = np.array(np.broadcast_to(image, (height, width, 3)), order="C")  # a copy, as it must be writable
        field.addPairwiseBilateral(
            sxy=near, srgb=settings.intensity_deviation, rgbim=colours, compat=settings.appearance_weight
        )
    if settings.smoothness_weight:
        field.addPairwiseGaussian(sxy=settings.smoothness_deviation or near, compat=settings.smoothness_weight)
    return np.array(field.inference(settings.iterations), np.float32).T.reshape(height, width, count)


def _in_processes(tasks: Iterator[_Task], workers: int) -> Iterator[np.ndarray]:
    try:
        yield from mapped(_refine, tasks, workers, _IMAGES_A_WORKER)
    except (BrokenProcessPool, MemoryError):
        raise RunError(
            f"one of {workers} processes of the CRF was ended by the system, mostly for want of memory. Run this "
            f"again with fewer, such as --workers {max(1, workers // 2)}, or leave the CRF out."
        ) from None


def _refine(task: _Task) -> np.ndarray:
    return refine(*task)
