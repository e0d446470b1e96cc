"""The dense CRF on pictures whose answer is known, beside its energy summed by hand, and over processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ustoolkit.errors import RunError, ShapeError
from ustoolkit.inference.crf import refine, refined, with_and_without, with_crf
from ustoolkit.recipe.settings import CrfSettings, InferenceSettings

SETTINGS = CrfSettings(enabled=True, smoothness_deviation=3)


def disc(side: int = 64, radius: float = 18.0) -> np.ndarray:
    """bool (side, side), a disc in the middle."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(rows, columns) < radius


def picture(lesion: np.ndarray, noise: float = 4.0) -> np.ndarray:
    """uint8 (height, width, 1), a dark lesion in bright tissue."""
    grey = np.where(lesion, 60.0, 160.0) + np.random.default_rng(0).normal(0, noise, lesion.shape)
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None]


def random_case(rng: np.random.Generator, height: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A probability and an image of noise."""
    probability = rng.dirichlet(np.ones(max(2, classes)), (height, width)).astype(np.float32)
    return probability[..., -1:] if classes == 1 else probability, rng.integers(0, 256, (height, width, 3), np.uint8)


def summed_directly(probability: np.ndarray, image: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Mean-field inference with each kernel as a whole matrix, in float64."""
    shape = probability.shape
    positions = np.stack(np.mgrid[: shape[0], : shape[1]], -1).reshape(-1, 2).astype(float)
    colours = np.broadcast_to(image, (*shape[:2], 3)).reshape(-1, 3).astype(float)
    far = ((positions[:, None] - positions) ** 2).sum(-1)
    unlike = ((colours[:, None] - colours) ** 2).sum(-1)
    smooth = settings.smoothness_deviation or settings.position_deviation
    kernels = {
        settings.appearance_weight: np.exp(
            -far / (2 * settings.position_deviation**2) - unlike / (2 * settings.intensity_deviation**2)
        ),
        -settings.smoothness_weight: np.exp(-far / (2 * smooth**2)),  # the sign keeps equal weights apart
    }
    unary = np.log(np.clip(probability.reshape(-1, shape[2]).astype(float), 1e-5, 1))

    def normalised(log_values: np.ndarray) -> np.ndarray:
        values = np.exp(log_values - log_values.max(1, keepdims=True))
        return values / values.sum(1, keepdims=True)

    belief = normalised(unary)
    for _ in range(settings.iterations):
        messages = np.zeros_like(belief)
        for weight, kernel in kernels.items():
            root = np.sqrt(kernel.sum(1))
            messages += abs(weight) * (kernel / root[:, None] / root) @ belief
        belief = normalised(unary + messages)
    return belief.reshape(shape)


def striped_case(side: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A stripe a class, each of its own brightness; a fifth of the pixels are taken for the next class."""
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(side) * classes // side, (side, 1))
    shown = np.where(rng.random((side, side)) < 0.2, (truth + 1) % classes, truth)
    probability = np.full((side, side, classes), 0.4 / (classes - 1), np.float32)
    np.put_along_axis(probability, shown[..., None], 0.6, -1)
    image = np.clip(40 + 60 * truth + rng.normal(0, 4, truth.shape), 0, 255).astype(np.uint8)
    return probability, image[..., None]


# The lattice smears a Gaussian over its cells, which misses a tenth to a sixth of what the terms do here. Light weights
# and few iterations, since a difference grows from one to the next.
@pytest.mark.parametrize(
    "changes",
    [
        {"appearance_weight": 0.0, "smoothness_weight": 1.0, "smoothness_deviation": 3.0},
        {"appearance_weight": 0.0, "smoothness_weight": 1.0, "smoothness_deviation": 0.0, "position_deviation": 8.0},
        {"appearance_weight": 1.0, "smoothness_weight": 0.0, "position_deviation": 6.0, "intensity_deviation": 40.0},
        {"appearance_weight": 1.0, "smoothness_weight": 0.0, "position_deviation": 60.0},
        {"appearance_weight": 1.0, "smoothness_weight": 1.0, "position_deviation": 8.0, "smoothness_deviation": 3.0},
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_near_the_energy_summed_over_all_pairs(changes, classes):
    settings = SETTINGS.model_copy(update={"iterations": 3, **changes})
    probability, image = striped_case(8, classes)
    exact = summed_directly(probability, image, settings)
    found = refine(probability, image, settings)
    np.testing.assert_allclose(found, exact, atol=np.abs(exact - probability).max() / 5)
    np.testing.assert_array_equal(found.argmax(-1), exact.argmax(-1))


def test_on_a_drawn_lesion_the_labels_are_those_of_the_exact_sums():
    lesion = disc(14, 4.5)
    wrong = np.random.default_rng(2).random(lesion.shape) < 0.2
    probability = np.where(lesion ^ wrong, 0.7, 0.3)[..., None].astype(np.float32)
    settings = SETTINGS.model_copy(update={"smoothness_deviation": 1.0})
    both = np.concatenate([1 - probability, probability], -1)
    exact = summed_directly(both, picture(lesion), settings)[..., 1]
    found = refine(probability, picture(lesion), settings)[..., 0]
    np.testing.assert_array_equal(found > 0.5, exact > 0.5)
    np.testing.assert_array_equal(found > 0.5, lesion)


def test_a_noisy_disc_becomes_the_disc():
    lesion = disc()
    noisy = np.where(lesion, 0.65, 0.35) + np.random.default_rng(3).normal(0, 0.2, lesion.shape)
    probability = np.clip(noisy, 0.02, 0.98)[..., None].astype(np.float32)
    assert np.count_nonzero((probability[..., 0] > 0.5) != lesion) > 500
    assert np.count_nonzero((refine(probability, picture(lesion), SETTINGS)[..., 0] > 0.5) != lesion) < 5


def test_a_bright_speckle_that_was_taken_for_lesion_goes():
    lesion, image = disc(), picture(disc())
    image[6:9, 6:9] = 250
    probability = np.where(lesion, 0.9, 0.1)[..., None].astype(np.float32)
    probability[6:9, 6:9] = 0.8
    # alike are only the nine pixels themselves, so that what is near has to speak
    mask = refine(probability, image, SETTINGS.model_copy(update={"smoothness_weight": 6.0}))[..., 0] > 0.5
    np.testing.assert_array_equal(mask, lesion)


def test_the_edge_moves_to_that_of_the_image():
    lesion = disc()
    probability = np.where(disc(radius=15.0), 0.85, 0.25)[..., None].astype(np.float32)
    mask = refine(probability, picture(lesion), SETTINGS.model_copy(update={"smoothness_weight": 0.0}))[..., 0] > 0.5
    np.testing.assert_array_equal(mask, lesion)


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_what_is_undecided_on_a_flat_image_stays_so(classes):
    probability = np.full((20, 30, classes), 1 / max(2, classes), np.float32)
    result = refine(probability, np.full((20, 30, 1), 90, np.uint8), SETTINGS)
    np.testing.assert_allclose(result, probability, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_what_is_equal_everywhere_on_a_flat_image_keeps_its_mask(share):
    probability = np.full((20, 30, 1), share, np.float32)
    result = refine(probability, np.full((20, 30, 3), 90, np.uint8), SETTINGS)
    assert ((result > 0.5) == (share > 0.5)).all()


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("weight", [0.0, 4.0])
def test_classes_sum_to_one(classes, weight):
    probability, image = random_case(np.random.default_rng(4), 33, 17, classes)
    settings = SETTINGS.model_copy(update={"appearance_weight": weight, "smoothness_weight": weight})
    result = refine(probability, image, settings)
    assert result.shape == probability.shape and result.dtype == np.float32 and result.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)
    assert 0 <= result.min() <= result.max() <= 1


def test_one_channel_is_the_lesion_beside_the_background():
    probability, image = random_case(np.random.default_rng(5), 24, 40, 1)
    both = np.concatenate([1 - probability, probability], -1)
    np.testing.assert_array_equal(refine(probability, image, SETTINGS), refine(both, image, SETTINGS)[..., 1:])


def test_grey_is_three_equal_channels():
    probability, image = random_case(np.random.default_rng(6), 24, 40, 1)
    grey = image[..., :1]
    np.testing.assert_array_equal(
        refine(probability, grey, SETTINGS), refine(probability, np.repeat(grey, 3, axis=2), SETTINGS)
    )


def test_without_weights_the_probability_comes_back():
    probability, image = random_case(np.random.default_rng(7), 24, 40, 1)
    off = SETTINGS.model_copy(update={"appearance_weight": 0.0, "smoothness_weight": 0.0})
    np.testing.assert_array_equal(refine(probability, image, off), probability)


def test_certainty_is_neither_endless_nor_undefined():
    probability = disc()[..., None].astype(np.float32)
    probability[2, 2] = 1
    result = refine(probability, picture(disc()), SETTINGS.model_copy(update={"smoothness_weight": 20.0}))
    assert np.isfinite(result).all() and result[2, 2, 0] < 0.5


def test_height_and_width_are_not_mistaken_for_each_other():
    probability, image = random_case(np.random.default_rng(8), 20, 50, 3)
    turned = refine(probability.transpose(1, 0, 2), image.transpose(1, 0, 2), SETTINGS).transpose(1, 0, 2)
    # the lattice's axes are not alike, so that a turned image is near and not equal
    assert np.mean(turned.argmax(-1) == refine(probability, image, SETTINGS).argmax(-1)) > 0.9


def test_the_deviations_of_the_two_terms_are_separate():
    probability, image = random_case(np.random.default_rng(9), 24, 24, 1)
    smooth = {"appearance_weight": 0.0, "position_deviation": 20.0}

    def with_deviation(value: float, **more: float) -> np.ndarray:
        changes = {**smooth, "smoothness_deviation": value, **more}
        return refine(probability, image, SETTINGS.model_copy(update=changes))

    assert np.abs(with_deviation(2.0) - with_deviation(20.0)).max() > 0.05
    np.testing.assert_array_equal(with_deviation(0.0), with_deviation(20.0))
    np.testing.assert_array_equal(with_deviation(2.0), with_deviation(2.0, position_deviation=7.0))


def test_memory_that_is_not_contiguous_and_other_floats_do():
    probability, image = random_case(np.random.default_rng(10), 24, 40, 3)
    expected = refine(probability, image, SETTINGS)
    found = refine(np.asfortranarray(probability.astype(np.float64)), np.asfortranarray(image), SETTINGS)
    np.testing.assert_array_equal(found, expected)
    image.flags.writeable = False
    np.testing.assert_array_equal(refine(probability, image, SETTINGS), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_the_smallest_images_do(shape):
    probability, image = random_case(np.random.default_rng(11), *shape, 1)
    assert np.isfinite(refine(probability, image, SETTINGS)).all()


@pytest.mark.parametrize(
    ("probability", "image"),
    [
        (np.zeros((4, 5, 1)), np.zeros((5, 4, 1), np.uint8)),
        (np.zeros((4, 5)), np.zeros((4, 5, 1), np.uint8)),
        (np.zeros((4, 5, 1)), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 5, 1)), np.zeros((4, 5, 4), np.uint8)),
        (np.zeros((4, 5, 1)), np.zeros((4, 5, 3))),
        (np.zeros((0, 5, 1)), np.zeros((0, 5, 3), np.uint8)),
        (np.zeros((4, 5, 0)), np.zeros((4, 5, 3), np.uint8)),
    ],
)
def test_shapes_that_do_not_fit_are_named(probability, image):
    with pytest.raises(ShapeError, match="expected"):
        refine(probability, image, SETTINGS)


@pytest.fixture(scope="module")
def many():
    """Probabilities and images of several sizes and classes."""
    rng = np.random.default_rng(12)
    cases = [random_case(rng, 20 + 7 * number, 61 - 3 * number, 1 + number % 3) for number in range(11)]
    return [probability for probability, _ in cases], [image for _, image in cases]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_give_the_same_to_the_bit_and_in_order(many, workers):
    alone = [refine(probability, image, SETTINGS) for probability, image in zip(*many, strict=True)]
    found = list(refined(*many, SETTINGS, workers))
    assert len(found) == len(alone)
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_come_back_too(many, count):
    probabilities, images = many
    assert len(list(refined(probabilities[:count], images[:count], SETTINGS))) == count
    assert len(list(refined(probabilities[:count], images[:count], SETTINGS, workers=2))) == count


def test_only_a_few_images_are_read_ahead(many):
    probabilities, images = many
    read = []

    def watched():
        for number in range(40):
            read.append(number)
            yield probabilities[number % 11]

    endless = (images[number % 11] for number in range(40))
    with closing(refined(watched(), endless, SETTINGS, workers=2)) as results:
        for taken in range(1, 21):
            next(results)
            assert len(read) <= taken + 5


def test_stopping_early_ends_the_processes(many):
    results = refined(*many, SETTINGS, workers=2)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert not multiprocessing.active_children()


def test_an_error_of_an_image_arrives_and_ends_the_processes(many):
    probabilities, images = many
    images = [*images[:5], images[0], *images[6:]]
    with pytest.raises(ShapeError, match="same size"):
        list(refined(probabilities, images, SETTINGS, workers=2))
    assert not multiprocessing.active_children()


def test_a_process_that_dies_gives_one_error(many):
    results = refined(*many, SETTINGS, workers=2)
    next(results)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(RunError, match="--workers 1"):
        list(results)
    assert not multiprocessing.active_children()


_STARTED = """
import numpy as np
from ustoolkit.inference.crf import refined
from ustoolkit.recipe.settings import CrfSettings

def endless(value):
    while True:
        yield value

if __name__ == "__main__":
    pairs = (endless(np.full((40, 40, 1), 0.5, np.float32)), endless(np.zeros((40, 40, 1), np.uint8)))
    results = refined(*pairs, CrfSettings(), workers=2)
    next(results)
    import multiprocessing, sys
    modules = "tensorflow" in sys.modules
    print(modules, *(child.pid for child in multiprocessing.active_children()), flush=True)
    for _ in results:
        pass
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "started.py"
    script.write_text(_STARTED)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    tensorflow, *children = parent.stdout.readline().split()
    loaded = [Path(f"/proc/{child}/maps").read_text() for child in children]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert tensorflow == "False" and not any("tensorflow" in maps for maps in loaded) and len(children) == 2
    until = time.monotonic() + 10
    while any(_lives(int(child)) for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_lives(int(child)) for child in children)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # one that has ended and that nobody has asked about yet
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_both_probabilities_stand_side_by_side_where_it_is_on(many):
    probabilities, images = many
    for kept, found in with_and_without(iter(probabilities), iter(images), CrfSettings(enabled=False)):
        assert found is None and kept is probabilities[0]
        break
    pairs = list(with_and_without(iter(probabilities), iter(images), SETTINGS, workers=2))
    assert all(kept is given for (kept, _), given in zip(pairs, probabilities, strict=True))
    np.testing.assert_array_equal(pairs[7][1], refine(probabilities[7], images[7], SETTINGS))


def test_images_are_not_kept_where_it_is_off(many):
    probabilities, images = many
    left = iter(images)
    results = with_and_without(iter(probabilities), left, CrfSettings(enabled=False))
    next(results), next(results)
    assert len(list(left)) == len(images) - 2


def test_switching_it_keeps_its_parameters():
    inference = InferenceSettings(crf=CrfSettings(position_deviation=33.0), threshold=0.4)
    assert with_crf(inference, None) == inference
    on = with_crf(inference, True)
    assert on.crf.enabled and on.crf.position_deviation == 33 and on.threshold == 0.4
    assert with_crf(on, False) == inference
