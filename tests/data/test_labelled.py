"""Labelled regions and their batches: nothing is mixed up, made twice, or made of what is held out."""

import collections
import dataclasses

import numpy as np
import pytest

from tests.classifiers import BOTTLENECK, FINE_TUNING, recipe_of
from ustoolkit.data.expand import expand_records
from ustoolkit.data.labelled import LabelledRegions, read_labelled, with_more
from ustoolkit.data.labelled_batches import LabelledBatches
from ustoolkit.data.labels import labels_of
from ustoolkit.data.leaks import groups
from ustoolkit.data.lesions import known_lesions
from ustoolkit.data.records import IndexRow
from ustoolkit.data.split import read_splits
from ustoolkit.errors import DataError, RecipeError, RecordsError
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.recipe.data_set import ExpansionSettings

LABELS = ["benign", "malignant"]
STILL = "augmentation.enabled=false"


def recipe(*changes):
    return recipe_of(FINE_TUNING, "training.batch_size=4", *changes)


def regions_of(benign=12, malignant=8, size=8, seed=0):
    """Each region is noise around a grey value that tells its label: below 100 benign, above 150 malignant."""
    source = np.random.default_rng(seed)
    truth = source.permutation([0] * benign + [1] * malignant)
    pixels = source.integers(0, 60, (len(truth), size, size, 1)) + 30 + 130 * truth[:, None, None, None]
    names = [f"scan {number}" for number in range(len(truth))]
    patients = np.array([f"patient {number // 2}" for number in range(len(truth))])
    lesions = np.zeros((len(truth), size, size), np.uint8)
    lesions[:, 2:5, 2:6] = 1
    return LabelledRegions(names, patients, truth, pixels.astype(np.uint8), lesions, np.zeros(len(truth), bool))


def overlapping(benign=20, malignant=8):
    """Regions whose labels are hard to tell apart, so that SMOTE has a border to begin at."""
    found = regions_of(benign, malignant)
    pixels = np.random.default_rng(1).integers(0, 256, found.pixels.shape, np.uint8)
    return found.with_pixels(pixels, found.lesions)


def counts(regions):
    return collections.Counter(regions.truth.tolist())


def read(records, source_ids, *changes, labels=LABELS):
    settings = recipe(*changes)
    find = known_lesions(settings.classification.region)
    return read_labelled(records, source_ids, labels, settings, find)


class TestReading:
    def test_each_region_has_its_own_label_patient_and_pixels(self, labelled_records):
        chosen = read_splits(labelled_records.folder / "splits.json", labelled_records)["train"]
        found = read(labelled_records, chosen)
        rows = [row for row in labelled_records.index if row.source_id in set(chosen)]
        group_of = groups(labelled_records.index)
        assert found.source_ids == [row.source_id for row in rows]
        assert [LABELS[index] for index in found.truth] == [row.label for row in rows]
        assert found.groups.tolist() == [group_of[row.patient_id] for row in rows]
        assert found.pixels.dtype == found.lesions.dtype == np.uint8 and found.truth.dtype == np.int64
        assert found.pixels.shape == (len(rows), 32, 32, 1) and not found.made.any()
        for place in (0, len(rows) - 1):
            alone = read(labelled_records, [rows[place].source_id])
            np.testing.assert_array_equal(alone.pixels[0], found.pixels[place])
            np.testing.assert_array_equal(alone.lesions[0], found.lesions[place])
        assert (found.lesions.mean(axis=(1, 2)) > 0.05).all() and found.lesions.max() == 1

    def test_another_order_of_names_is_the_same_order_of_images(self, labelled_records):
        names = [row.source_id for row in labelled_records.index][:5]
        assert read(labelled_records, names[::-1]).source_ids == names

    def test_a_label_that_is_not_known_is_answered(self, labelled_records):
        names = [row.source_id for row in labelled_records.index]
        with pytest.raises(RecordsError, match="expected one of the labels 'benign', 'cyst', found 'malignant'"):
            read(labelled_records, names, labels=["benign", "cyst"])

    def test_a_lesion_that_is_not_known_is_answered(self, labelled_records):
        names = [row.source_id for row in labelled_records.index][:2]
        settings = recipe()
        with pytest.raises(DataError, match="'lesion_box'"):
            read_labelled(labelled_records, names, LABELS, settings, known_lesions(RegionSettings(source="box")))

    def test_what_the_records_were_expanded_by_counts_as_made(self, labelled_records, tmp_path):
        splits = read_splits(labelled_records.folder / "splits.json", labelled_records)
        settings = ExpansionSettings(method="augment", count=40)
        expanded = expand_records(labelled_records, splits, tmp_path / "expanded", settings, workers=1)
        train = read_splits(expanded.folder / "splits.json", expanded)["train"]
        found = read(expanded, train)
        assert dict(zip(found.source_ids, found.made, strict=True)) == {name: "+" in name for name in train}
        assert found.made.sum() == 40 - len(splits["train"])


class TestMore:
    def test_off_nothing_is_added(self):
        regions = regions_of()
        assert with_more(regions, LABELS, recipe()) is regions

    @pytest.mark.parametrize("count", [23, 24, 60])
    def test_copies_bring_labels_to_equal_numbers(self, count):
        regions = regions_of()
        more = with_more(regions, LABELS, recipe(f"classification.balance.expand_to={count}"))
        assert len(more.source_ids) == count and abs(counts(more)[0] - counts(more)[1]) <= 1
        assert len(set(more.source_ids)) == count
        assert more.made.tolist() == [False] * 20 + [True] * (count - 20)
        assert more.pixels.dtype == np.uint8 and more.lesions.max() == 1

    def test_what_was_there_comes_first_unchanged_and_copies_keep_group_and_label(self):
        regions = regions_of()
        more = with_more(regions, LABELS, recipe("classification.balance.expand_to=50"))
        assert more.source_ids[:20] == regions.source_ids
        for name in ("groups", "truth", "pixels", "lesions"):
            np.testing.assert_array_equal(getattr(more, name)[:20], getattr(regions, name))
        own = {name: place for place, name in enumerate(regions.source_ids)}
        for place in range(20, 50):
            origin = own[more.source_ids[place].rpartition("+")[0]]
            assert more.groups[place] == regions.groups[origin] and more.truth[place] == regions.truth[origin]

    def test_without_changes_a_copy_is_its_origin(self):
        still = [f"augmentation.{name}=0" for name in ("rotation_degrees", "shift", "shear_degrees", "zoom")]
        still += [f"augmentation.{name}=0" for name in ("horizontal_flip", "vertical_flip", "channel_shift")]
        regions = regions_of()
        more = with_more(regions, LABELS, recipe("classification.balance.expand_to=50", *still))
        for place in range(20, 50):
            origin = regions.source_ids.index(more.source_ids[place].rpartition("+")[0])
            np.testing.assert_array_equal(more.pixels[place], regions.pixels[origin])
            np.testing.assert_array_equal(more.lesions[place], regions.lesions[origin])

    def test_an_image_and_its_mask_move_together(self):
        regions = regions_of()
        regions = regions.with_pixels(255 * regions.lesions[..., None], regions.lesions)
        more = with_more(regions, LABELS, recipe("classification.balance.expand_to=60", "augmentation.channel_shift=0"))
        differing = (more.pixels[20:, ..., 0] >= 128) != (more.lesions[20:] == 1)
        assert differing.mean() < 0.04  # the outline alone: pixels are interpolated, masks are not

    def test_the_seed_decides(self):
        def made(seed):
            settings = recipe("classification.balance.expand_to=40", f"training.seed={seed}")
            return with_more(regions_of(), LABELS, settings).pixels

        np.testing.assert_array_equal(made(1), made(1))
        assert (made(1) != made(2)).any()

    def test_synthetic_images_bring_the_smaller_label_to_the_larger(self):
        regions = overlapping()
        more = with_more(regions, LABELS, recipe("classification.balance.smote=pixels"))
        assert counts(more) == {0: 20, 1: 20}
        assert (more.truth[28:] == 1).all() and more.made.tolist() == [False] * 28 + [True] * 12
        assert len({*more.groups[28:]}) == 12 and not {*more.groups[28:]} & {*regions.groups}
        np.testing.assert_array_equal(more.lesions[28:], np.repeat(regions.lesions[:1], 12, axis=0))

    def test_synthetic_images_are_copied_too(self):
        settings = recipe("classification.balance.smote=pixels", "classification.balance.expand_to=100")
        more = with_more(overlapping(), LABELS, settings)
        assert counts(more) == {0: 50, 1: 50} and len(set(more.source_ids)) == 100
        copies = [place for place, name in enumerate(more.source_ids) if name.startswith("synthetic") and "+" in name]
        assert copies
        assert all(more.groups[place] == more.source_ids[place].rpartition("+")[0] for place in copies)

    def test_where_features_are_balanced_later_each_image_gets_as_many_copies(self):
        settings = recipe_of(BOTTLENECK, "classification.balance.expand_to=50")
        more = with_more(regions_of(), LABELS, settings)
        copies = collections.Counter(name.rpartition("+")[0] or name for name in more.source_ids)
        assert len(more.source_ids) == 50 and set(copies.values()) == {2, 3}

    @pytest.mark.parametrize(
        ("changes", "answer"),
        [
            (["expand_to=10"], "classification.balance.expand_to of at least 23.*'benign' with its 12.*found 10"),
            (["smote=pixels"], "class 'malignant': Borderline-SMOTE2 needs at least 6 training images, found 5"),
        ],
    )
    def test_what_cannot_be_made_is_answered(self, changes, answer):
        regions = regions_of(12, 5)
        with pytest.raises(RecordsError, match=answer):
            with_more(regions, LABELS, recipe(*(f"classification.balance.{change}" for change in changes)))


class TestBatches:
    def test_an_image_keeps_its_label(self):
        for changes in ((STILL,), (STILL, "classification.balance.sampling=balanced")):
            batches = LabelledBatches(regions_of(), recipe(*changes), training=True)
            for number in range(3):
                for images, truth in batches.epoch(number):
                    bright = images.numpy().reshape(len(truth), -1).min(axis=1) > 100
                    np.testing.assert_array_equal(bright, truth.numpy() == 1)

    def test_augmented_an_image_keeps_its_label(self):
        shy = ("augmentation.channel_shift=0.05", "augmentation.shift=0", "augmentation.zoom=0")
        batches = LabelledBatches(regions_of(), recipe(*shy), training=True)
        for images, truth in batches.epoch(0):
            np.testing.assert_array_equal(images.numpy().max(axis=(1, 2, 3)) > 120, truth.numpy() == 1)

    def test_an_epoch_is_repeatable_and_another_one_is_in_another_order(self):
        def epoch(number, seed=0):
            batches = LabelledBatches(regions_of(), recipe(f"training.seed={seed}"), training=True)
            return np.concatenate([images.numpy() for images, _ in batches.epoch(number)])

        np.testing.assert_array_equal(epoch(3), epoch(3))
        assert (epoch(3) != epoch(4)).any() and (epoch(3) != epoch(3, seed=1)).any()

    def test_natural_sampling_shows_each_image_once(self):
        regions = regions_of(11, 8)
        batches = LabelledBatches(regions, recipe(STILL), training=True)
        assert batches.steps == 4 and batches.batch_size == 4
        shown = np.concatenate([images.numpy() for images, _ in batches.epoch(0)])
        assert shown.shape == (16, 8, 8, 1) and len(np.unique(shown.reshape(16, -1), axis=0)) == 16

    def test_balanced_sampling_draws_labels_evenly_and_leaves_no_rare_image_out(self):
        regions = regions_of(32, 4)
        settings = recipe(STILL, "classification.balance.sampling=balanced", "training.batch_size=36")
        batches = LabelledBatches(regions, settings, training=True)
        for number in range(4):
            [(images, truth)] = list(batches.epoch(number))
            assert collections.Counter(truth.numpy().tolist()) == {0: 18, 1: 18}
            rare = images.numpy()[truth.numpy() == 1].reshape(18, -1)
            times = np.unique(rare, axis=0, return_counts=True)[1]
            assert len(times) == 4 and times.max() - times.min() <= 1

    def test_validation_is_in_order_complete_and_never_changed(self):
        regions = regions_of(7, 4)
        batches = LabelledBatches(regions, recipe("classification.balance.sampling=balanced"), training=False)
        found = list(batches.epoch(5))
        assert batches.steps == len(found) == 3
        np.testing.assert_array_equal(np.concatenate([images.numpy() for images, _ in found]), regions.pixels)
        np.testing.assert_array_equal(np.concatenate([truth.numpy() for _, truth in found]), regions.truth)

    def test_fewer_images_than_a_batch_are_one_batch(self):
        batches = LabelledBatches(regions_of(2, 1), recipe(), training=True)
        [(images, _)] = list(batches.epoch(0))
        assert batches.steps == 1 and images.shape == (3, 8, 8, 1)

    def test_what_was_expanded_by_copies_is_not_changed_again(self):
        settings = recipe("classification.balance.expand_to=40", "training.batch_size=40")
        more = with_more(regions_of(), LABELS, settings)
        [(images, _)] = list(LabelledBatches(more, settings, training=True).epoch(0))
        expected = sorted(region.tobytes() for region in more.pixels)
        assert sorted(image.tobytes() for image in images.numpy().astype(np.uint8)) == expected

    def test_what_is_for_networks_that_segment_is_refused(self):
        for setting in ("augmentation.engine=tensorflow", "data.service=grpc://host:5000"):
            with pytest.raises(RecipeError, match=rf"{setting.partition('=')[0]}: expected .*classifies"):
                LabelledBatches(regions_of(), recipe(setting), training=True)

    def test_the_mask_is_a_channel_that_is_augmented_with_the_image(self):
        regions = regions_of()
        regions = regions.with_pixels(255 * regions.lesions[..., None], regions.lesions)
        settings = recipe("classification.region.mask_channel=true", "augmentation.channel_shift=0")
        for training in (True, False):
            for images, _ in LabelledBatches(regions, settings, training).epoch(1):
                assert images.shape[1:] == (8, 8, 2)
                assert set(np.unique(images[..., 1])) <= {0, 255}
                assert np.mean((images[..., 0] >= 128) != (images[..., 1] == 255)) < 0.04


class TestLabels:
    def rows(self, *labels):
        return [IndexRow(f"scan {n}", f"p{n}", label, "", 8, 8, None, 0, "") for n, label in enumerate(labels)]

    def test_the_positive_one_is_last_and_no_label_is_none(self):
        assert labels_of(self.rows("b", "a", "", "c", "a"), "b") == ["a", "c", "b"]

    @pytest.mark.parametrize(("labels", "found"), [("aa", "found a"), ("bb", "found b"), (("", ""), "found none")])
    def test_one_label_or_no_positive_one_is_answered(self, labels, found):
        with pytest.raises(RecordsError, match=rf"labelled 'b' and others, {found}\..*classification.positive"):
            labels_of(self.rows(*labels), "b")


def test_some_of_the_regions_are_taken_in_the_order_asked_for():
    regions = regions_of()
    some = regions.taken(np.array([5, 2]))
    assert some.source_ids == ["scan 5", "scan 2"]
    for field in dataclasses.fields(regions)[1:]:
        np.testing.assert_array_equal(getattr(some, field.name), getattr(regions, field.name)[[5, 2]])
