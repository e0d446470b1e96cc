import numpy as np
import pytest

from ustoolkit.inference.lesion_probability import lesion_probability


def test_of_two_classes_and_of_several_it_is_that_of_any_lesion():
    lesion = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    of_two = lesion_probability(lesion[..., np.newaxis])
    several = np.stack([1 - lesion, 0.25 * lesion, 0.75 * lesion], axis=-1)
    assert of_two.dtype == np.uint8 and of_two.tolist() == np.rint(255 * lesion).astype(int).tolist()
    assert np.abs(lesion_probability(several).astype(int) - of_two).max() <= 1


@pytest.mark.parametrize(("size", "kept"), [((40, 80), (32, 64)), ((20, 10), (20, 10)), ((3, 300), (1, 64))])
def test_it_keeps_its_shape_and_is_never_made_larger(size, kept):
    found = lesion_probability(np.full((*size, 1), 0.5), longest_side=64)
    assert found.shape == kept and set(found.ravel().tolist()) == {128}
