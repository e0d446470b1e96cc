"""What a data set is like, told from its index, is what its pixels tell."""

import math
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ustoolkit.data.profile import Spread, profile_of
from ustoolkit.data.records import IndexRow
from ustoolkit.data.split import read_splits


def row(name, height=100, width=100, fraction=0.04, regions=1, spacing=None):
    return IndexRow(name, name, "", "records-00000-of-00001.tfrecord", height, width, fraction, regions, "", spacing)


def profile_of_rows(*rows, train=None, classes=("background", "lesion")):
    names = [each.source_id for each in rows]
    made = types.SimpleNamespace(index=list(rows), classes=list(classes))
    return profile_of(made, {"train": names[:train], "validation": names[train:] if train else [], "test": []})


def test_a_profile_agrees_with_the_pixels(records):
    splits = read_splits(records.folder / "splits.json", records)
    profile = profile_of(records, splits)
    samples = [sample for sample in records.read() if sample.source_id in set(splits["train"])]
    shares, sides = [], []
    for sample in samples:
        lesion = sample.mask > 0
        if lesion.any():
            # Regions touch at corners too, as the index counts them.
            area = lesion.sum() / ndimage.label(lesion, np.ones((3, 3)))[1]
            shares.append(math.sqrt(area / lesion.size))
            sides.append(math.sqrt(area))
    assert profile.counts == {part: len(names) for part, names in splits.items()}
    assert (profile.images, profile.classes) == (len(samples), len(records.classes))
    assert profile.lesion_share.median == pytest.approx(np.median(shares), rel=1e-3)
    assert profile.lesion_side.smallest == pytest.approx(min(sides), rel=1e-3)
    assert profile.lesion_side.low == pytest.approx(np.percentile(sides, 5), rel=1e-3)
    assert profile.without_lesion == pytest.approx(1 - len(shares) / len(samples))
    assert (profile.height.smallest, profile.width.largest, profile.side) == (64, 64, 64)


def test_only_the_training_part_is_profiled():
    profile = profile_of_rows(row("a"), row("b", height=900, fraction=0.9), train=1)
    assert profile.height.largest == 100 and profile.lesion_fraction.largest == 0.04
    assert profile.counts == {"train": 1, "validation": 1, "test": 0}


def test_regions_share_a_lesions_area():
    profile = profile_of_rows(row("a", fraction=0.16, regions=4, height=50, width=200))
    assert profile.lesion_share.median == pytest.approx(0.2)
    assert profile.lesion_side.median == pytest.approx(20)
    assert profile.aspect.median == 4 and profile.several_regions == 1


def test_what_is_not_known_is_none():
    profile = profile_of_rows(row("a", fraction=0.0, regions=0), row("b", fraction=0.0, regions=0))
    assert profile.lesion_share is profile.lesion_side is profile.lesion_fraction is profile.spacing_mm is None
    assert profile.without_lesion == 1 and profile.several_regions == 0


def test_spacing_is_that_of_the_images_that_tell_it():
    profile = profile_of_rows(row("a", spacing=(0.1, 0.2)), row("b"), row("c", spacing=(0.3, 0.3)))
    assert profile.spacing_mm.median == pytest.approx(0.2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_a_spread_is_in_order_and_within_the_values(values):
    spread = Spread.of(values)
    found = (spread.smallest, spread.low, spread.median, spread.high, spread.largest)
    assert list(found) == sorted(found) and (found[0], found[-1]) == (min(values), max(values))


def test_no_values_have_no_spread():
    assert Spread.of([]) is None
