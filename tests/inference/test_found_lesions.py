"""Lesions as segmenters find them: an image that one learned from is left to the others, and each image gets one."""

import numpy as np
import pytest

from ustoolkit.data.example import pixel_digest
from ustoolkit.data.sample import Sample
from ustoolkit.errors import RunError
from ustoolkit.inference.lesions import FoundLesions
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.inference.segmenter import SegmenterEnsemble, load_segmenters
from ustoolkit.recipe.settings import InferenceSettings


class Constant:
    """A segmenter that says one probability everywhere, and learned from some images."""

    def __init__(self, probability, learned=(), classes=("background", "lesion")):
        self.probability, self.classes = np.asarray(probability, np.float32), list(classes)
        self.inference = InferenceSettings()
        self.trained_on = {pixel_digest(image) for image in learned}

    def probabilities(self, images):
        for image in images:
            yield np.broadcast_to(self.probability, image.shape[:2])[..., np.newaxis].astype(np.float32)

    def splits_of(self, records_digest):
        return None


class Unknown(Constant):
    """One that does not know what it learned from, as an export."""

    def __init__(self, probability):
        super().__init__(probability)
        del self.trained_on


IMAGES = [np.full((4, 6, 1), value, np.uint8) for value in (10, 20, 30, 40)]


def values(segmenter):
    return [round(float(each.mean()), 4) for each in segmenter.probabilities(iter(IMAGES))]


def test_an_image_is_left_to_those_that_did_not_learn_from_it():
    ensemble = SegmenterEnsemble(
        [Constant(0.1, [IMAGES[0], IMAGES[3]]), Constant(0.5, [IMAGES[1], IMAGES[3]]), Constant(0.9, [IMAGES[3]])]
    )
    assert values(ensemble) == [0.7, 0.5, 0.5, 0.5]
    assert ensemble.trained_on == {pixel_digest(IMAGES[3])}


def test_one_that_does_not_say_counts_as_one_that_did_not_learn():
    ensemble = SegmenterEnsemble([Constant(0.2, IMAGES), Unknown(0.6)])
    assert values(ensemble) == [0.6] * 4 and ensemble.trained_on == set()


def test_images_are_taken_one_after_another_by_all():
    taken = []

    def images():
        for number, image in enumerate(IMAGES):
            taken.append(number)
            yield image

    found = SegmenterEnsemble([Constant(0.2), Constant(0.4)]).probabilities(images())
    assert next(found).mean() == pytest.approx(0.3) and len(taken) == 1


def test_other_classes_are_refused():
    with pytest.raises(RunError, match="same classes"):
        SegmenterEnsemble([Constant(0.1), Constant(0.1, classes=("background", "cyst"))])


def test_runs_are_loaded_as_one(trained_run, records):
    one = load_segmenters([trained_run.folder])
    assert isinstance(one, RunSegmenter)
    two = load_segmenters([trained_run.folder, trained_run.folder])
    assert two.trained_on == one.trained_on == trained_run.trained_on
    sample = next(iter(records.read()))
    for alone, both in zip(one.probabilities([sample.image]), two.probabilities([sample.image]), strict=True):
        np.testing.assert_allclose(both, alone, atol=1e-6)


def samples():
    return [Sample(f"scan {n}", image, None, "benign", "p") for n, image in enumerate(IMAGES)]


def test_a_lesion_that_is_found_is_the_mask():
    probability = np.zeros((4, 6))
    probability[1:3, 2:4] = 0.9
    probability[0, 0] = 0.8  # a smaller region, which the settings drop
    find = FoundLesions(Constant(probability))
    for mask in find(samples()):
        assert mask.dtype == np.uint8 and mask.sum() == 4 and mask[1:3, 2:4].all()
    assert find.missed == []


def test_of_several_regions_the_largest_is_taken_whatever_the_settings_keep():
    probability = np.zeros((4, 6))
    probability[1:3, 2:4] = probability[0, 0] = 0.9
    segmenter = Constant(probability)
    segmenter.inference = InferenceSettings(largest_component=False)
    assert all(mask.sum() == 4 and not mask[0, 0] for mask in FoundLesions(segmenter)(samples()))


def test_where_none_is_found_the_likeliest_pixels_are_taken_and_said_so():
    probability = np.full((4, 6), 0.01)
    probability[1, 2], probability[1, 3], probability[3, 5] = 0.3, 0.16, 0.2
    find = FoundLesions(Constant(probability))
    masks = list(find(samples()))
    assert np.argwhere(masks[0]).tolist() == [[1, 2], [1, 3]]  # half of 0.3 or more, the largest region of them
    assert find.missed == [f"scan {n}" for n in range(4)]


@pytest.mark.parametrize("level", [0.0, 0.2])
def test_where_all_pixels_are_alike_the_whole_image_is_taken(level):
    find = FoundLesions(Constant(np.full((4, 6), level)))
    assert all(mask.all() for mask in find(samples()))


def test_of_several_classes_any_is_a_lesion():
    segmenter = Constant(0.0, classes=("background", "benign", "malignant"))
    probability = np.zeros((4, 6, 3), np.float32)
    probability[..., 0] = 1
    probability[1, 1], probability[1, 2] = (0.2, 0.5, 0.3), (0.2, 0.3, 0.5)
    segmenter.probabilities = lambda images: (probability for _ in images)
    assert all(mask[1, 1:3].any() and mask.sum() <= 2 for mask in FoundLesions(segmenter)(samples()))
