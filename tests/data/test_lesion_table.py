"""Lesions measured one row an image, in this process or in several, and jobs mapped over processes."""

import math
import operator

import numpy as np
import pytest

from ustoolkit.data.features import feature_names, lesion_features
from ustoolkit.data.lesion_table import measure_lesions
from ustoolkit.errors import DataError
from ustoolkit.processes import mapped

FAMILIES = ("shape", "contrast")


def test_a_row_is_what_is_measured_of_one_lesion_in_the_order_of_names(labelled_records):
    samples = list(labelled_records.read())[:4]
    table = measure_lesions(samples, [sample.mask for sample in samples], FAMILIES, 4)
    assert table.shape == (4, len(feature_names(FAMILIES))) and table.dtype == np.float32
    for row, sample in zip(table, samples, strict=True):
        measured = lesion_features(sample.image, sample.mask, FAMILIES)
        np.testing.assert_allclose(row, [measured[name] for name in feature_names(FAMILIES)], rtol=1e-6)


def test_processes_measure_the_same_and_an_empty_mask_is_named_there_too(labelled_records):
    samples = list(labelled_records.read())[:40]
    masks = [sample.mask for sample in samples]
    alone = np.concatenate([measure_lesions([s], [m], FAMILIES, 1) for s, m in zip(samples, masks, strict=True)])
    # A pixel on the edge between rim and centre may fall either way with the last bit of its distance.
    np.testing.assert_allclose(measure_lesions(samples, masks, FAMILIES, 40, workers=2), alone, rtol=0.01, atol=0.01)
    masks[37] = np.zeros_like(masks[37])
    for count, workers in ((40, 2), (40, 1)):
        with pytest.raises(DataError, match=rf"^{samples[37].source_id}: "):
            measure_lesions(samples, masks, FAMILIES, count, workers)


def test_masks_and_images_must_be_as_many(labelled_records):
    samples = list(labelled_records.read())[:2]
    with pytest.raises(ValueError, match="shorter"):
        measure_lesions(samples, [samples[0].mask], FAMILIES, 2)


def test_results_come_in_order_and_jobs_are_taken_as_they_are_needed():
    taken = []

    def jobs():
        for number in range(60):
            taken.append(number)
            yield number

    results = mapped(math.sqrt, jobs(), workers=2, ahead=3)
    assert next(results) == 0 and len(taken) == 6
    assert list(results) == [math.sqrt(number) for number in range(1, 60)]


def test_a_problem_in_a_process_reaches_the_caller():
    results = mapped(math.sqrt, iter([4, -1, 9]), workers=1)
    assert next(results) == 2
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(results)


def test_no_jobs_are_no_results():
    assert list(mapped(operator.neg, iter(()), workers=2)) == []
