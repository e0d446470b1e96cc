"""An expanded training part is balanced, made of training images alone, and the same each time; masks move along."""

import collections
import dataclasses
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_split import row
from tests.test_cli import call, refused
from ustoolkit.data.augment import Augmenter
from ustoolkit.data.expand import AugmentedCopy, copy_id, expand_records, plan_copies
from ustoolkit.data.leaks import find_leaks
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import Records, record_entries, write_records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import read_splits, split_patients, write_splits
from ustoolkit.errors import RecordsError
from ustoolkit.recipe import DataSetSettings
from ustoolkit.recipe.augmentation import AugmentationSettings
from ustoolkit.recipe.data_set import LYMPH_NODE_AUGMENTATION, ExpansionSettings

STILL = AugmentationSettings(
    rotation_degrees=0,
    shift=0,
    shear_degrees=0,
    zoom=0,
    horizontal_flip=0,
    vertical_flip=0,
    channel_shift=0,
    contrast=0,
)


@dataclasses.dataclass(frozen=True)
class Given:
    """An entry's load for a sample that is there."""

    sample: Sample

    def __call__(self):
        return self.sample


@pytest.fixture(scope="module")
def parts(records):
    return read_splits(records.folder / "splits.json", records)


@pytest.fixture(scope="module")
def expanded(records, parts, tmp_path_factory):
    """The phantoms with a training part of 51."""
    out = tmp_path_factory.mktemp("expanded") / "set"
    return expand_records(records, parts, out, ExpansionSettings(count=51, seed=4), workers=1)


def loaders(records):
    return {entry.source_id: entry.load for entry in record_entries(records)}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- how many copies ---

counts = st.dictionaries(st.sampled_from(["benign", "malignant", "normal", ""]), st.integers(1, 20), min_size=1)


def training(by_label):
    return [row(f"{label}{n}", f"{label}{n}", label) for label, count in by_label.items() for n in range(count)]


@given(counts, st.integers(0, 120), st.integers(0, 3))
@settings(deadline=None)
def test_classes_become_equal_to_within_one_or_the_count_is_refused(by_label, count, seed):
    largest = max(by_label.values())
    smallest = (largest - 1) * len(by_label) + sum(number == largest for number in by_label.values())
    if 0 < count < smallest:
        with pytest.raises(RecordsError, match=f"--count of at least {smallest}, .* found {count}"):
            plan_copies(training(by_label), count, seed)
        return
    plan = plan_copies(training(by_label), count, seed)
    reached = collections.Counter()
    for item in training(by_label):
        reached[item.label] += 1 + plan[item.source_id]
    assert sum(reached.values()) == (count or largest * len(by_label))
    assert max(reached.values()) - min(reached.values()) <= 1
    for label in by_label:
        copies = [plan[item.source_id] for item in training(by_label) if item.label == label]
        assert max(copies) - min(copies) <= 1


def test_another_seed_copies_other_images_where_not_all_can_be_copied_alike():
    by_label = {"benign": 20, "malignant": 15}
    plans = {tuple(sorted(plan_copies(training(by_label), 0, seed).items())) for seed in range(6)}
    assert len(plans) > 1
    rows = training(by_label)
    assert plan_copies(rows[::-1], 47, 1) == plan_copies(rows, 47, 1)


# --- copies ---


def test_the_published_preset():
    preset = ExpansionSettings().augmentation
    assert preset == LYMPH_NODE_AUGMENTATION
    assert (preset.rotation_degrees, preset.shift, preset.zoom, preset.channel_shift) == (90, 0.2, 0.2, 0.2)
    assert preset.shear_degrees == pytest.approx(np.degrees(0.2), abs=0.01)
    assert (preset.horizontal_flip, preset.vertical_flip, preset.contrast) == (0.5, 0.5, 0)


def test_a_copy_is_the_augmenters_keyed_by_seed_image_and_number(records):
    name = records.index[0].source_id
    original = loaders(records)[name]
    whole, copy = original(), AugmentedCopy(original, 2, LYMPH_NODE_AUGMENTATION, 9)()
    image, mask = Augmenter(LYMPH_NODE_AUGMENTATION, 9)(whole.image, whole.mask, name, 2)
    np.testing.assert_array_equal(copy.image, image)
    np.testing.assert_array_equal(copy.mask, mask)
    others = [AugmentedCopy(original, number, LYMPH_NODE_AUGMENTATION, seed)() for number, seed in ((1, 9), (2, 8))]
    assert all((other.image != copy.image).any() for other in others)
    again = pickle.loads(pickle.dumps(AugmentedCopy(original, 2, LYMPH_NODE_AUGMENTATION, 9)))()
    np.testing.assert_array_equal(again.image, copy.image)


def test_the_mask_moves_with_the_image(tmp_path):
    """A bright lesion on black stays under its mask."""
    rows, columns = np.mgrid[:64, :96]
    mask = ((rows - 30) ** 2 + (columns - 50) ** 2 <= 15**2).astype(np.uint8)
    sample = Sample("disc", (mask * 200)[..., np.newaxis], mask, "benign", "p", (0.1, 0.1))
    records = write_records([Entry("disc", Given(sample))], tmp_path / "records", DataSetSettings(), workers=1)
    original = loaders(records)["disc"]
    moving = LYMPH_NODE_AUGMENTATION.model_copy(update={"channel_shift": 0.0})
    for number in range(1, 20):
        copy = AugmentedCopy(original, number, moving, 0)()
        assert np.mean((copy.image[..., 0] > 100) == copy.mask) > 0.98
        assert copy.spacing_mm is None


def test_a_lesion_is_not_moved_out_of_the_picture(tmp_path):
    """One in the corner would be, every other time, by turns of up to 180 degrees and shifts of half the picture."""
    mask = np.zeros((64, 64), np.uint8)
    mask[:12, :12] = 1
    sample = Sample("corner", np.zeros((64, 64, 1), np.uint8), mask, "malignant", "p")
    records = write_records([Entry("corner", Given(sample))], tmp_path / "records", DataSetSettings(), workers=1)
    original = loaders(records)["corner"]
    wild = LYMPH_NODE_AUGMENTATION.model_copy(update={"rotation_degrees": 180.0, "shift": 0.5})
    blind = Augmenter(wild, 0)
    visible = [np.count_nonzero(blind(sample.image, mask, "corner", number)[1]) for number in range(1, 31)]
    assert sum(area < 46 for area in visible) > 8  # what is guarded against does happen
    kept = [np.count_nonzero(AugmentedCopy(original, number, wild, 0)().mask) for number in range(1, 31)]
    assert sum(area < 46 for area in kept) <= 1


# --- whole records ---


def test_training_is_expanded_and_the_rest_untouched(records, parts, expanded):
    found = read_splits(expanded.folder / "splits.json", expanded)
    assert len(found["train"]) == 51
    labels = collections.Counter(item.label for item in expanded.index if item.source_id in set(found["train"]))
    assert sorted(labels.values()) == [25, 26]
    assert (found["validation"], found["test"]) == (parts["validation"], parts["test"])
    assert set(parts["train"]) < set(found["train"])
    before = {item.source_id: item for item in records.index}
    for item in expanded.index:
        if item.source_id in before:
            assert item.sha256 == before[item.source_id].sha256 and item.attributes == before[item.source_id].attributes
        else:
            origin = before[item.attributes["expanded_from"]]
            assert item.source_id == copy_id(origin.source_id, item.attributes["copy"])
            assert origin.source_id in parts["train"]
            assert (item.patient_id, item.label) == (origin.patient_id, origin.label)
            assert (item.height, item.width) == (origin.height, origin.width)
            assert item.sha256 != origin.sha256 and item.lesion_fraction is not None
    assert expanded.manifest["classes"] == records.classes
    assert not find_leaks(found, expanded.index)
    how = json.loads((expanded.folder / "splits.json").read_text())["how"]
    assert (how["expanded_from"], how["count"], how["seed"]) == (records.digest, 51, 4)


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes_and_another_others(
    records, parts, expanded, tmp_path
):
    again = expand_records(records, parts, tmp_path / "again", ExpansionSettings(count=51, seed=4), workers=2)
    assert contents(again.folder) == contents(expanded.folder)
    other = expand_records(records, parts, tmp_path / "other", ExpansionSettings(count=51, seed=5), workers=1)
    assert other.digest != expanded.digest


def test_a_copy_does_not_hang_on_how_many_there_are(records, parts, expanded, tmp_path):
    more = expand_records(records, parts, tmp_path / "more", ExpansionSettings(count=80, seed=4), workers=1)
    digests = {item.source_id: item.sha256 for item in more.index}
    copies = [item for item in expanded.index if "expanded_from" in item.attributes]
    assert copies and all(digests[item.source_id] == item.sha256 for item in copies)


def test_without_changes_a_copy_is_its_original(records, parts, tmp_path):
    still = expand_records(
        records, parts, tmp_path / "still", ExpansionSettings(augmentation=STILL, count=50), workers=1
    )
    digests = {item.source_id: item.sha256 for item in still.index}
    assert all(digests[item.attributes.get("expanded_from", item.source_id)] == item.sha256 for item in still.index)


def test_expanded_records_are_neither_divided_nor_expanded_again(expanded, tmp_path):
    with pytest.raises(RecordsError, match="cannot be divided again"):
        split_patients(expanded.index)
    parts = read_splits(expanded.folder / "splits.json", expanded)
    with pytest.raises(RecordsError, match="were expanded already"):
        expand_records(expanded, parts, tmp_path / "twice", ExpansionSettings(count=100))


def test_an_image_with_the_name_of_a_copy_is_answered(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 1), dtype=np.uint8)
    mask = np.ones((16, 16), np.uint8)
    samples = [Sample(name, picture[number], mask, "benign", name) for number, name in enumerate(["a", "a+01", "b"])]
    records = write_records([Entry(s.source_id, Given(s)) for s in samples], tmp_path / "r", DataSetSettings(), 1)
    with pytest.raises(RecordsError, match="'a\\+01' is the name of a new image too"):
        parts = {"train": ["a"], "validation": ["a+01"], "test": ["b"]}
        expand_records(records, parts, tmp_path / "out", ExpansionSettings(count=3))


def test_a_split_that_leaks_is_not_expanded_unless_told(records, parts, tmp_path):
    several = collections.Counter(item.patient_id for item in records.index if item.source_id in set(parts["train"]))
    patient = several.most_common(1)[0][0]
    moved = next(item.source_id for item in records.index if item.patient_id == patient)
    leaking = {**parts, "train": [name for name in parts["train"] if name != moved], "test": [*parts["test"], moved]}
    with pytest.raises(RecordsError, match=f"patient '{patient}' is in both"):
        expand_records(records, leaking, tmp_path / "out", ExpansionSettings(), workers=1)
    made = expand_records(records, leaking, tmp_path / "out", ExpansionSettings(), workers=1, allow_leak=True)
    assert json.loads((made.folder / "splits.json").read_text())["leaks"][0]["name"] == patient


# --- regions with SMOTE ---


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Forty pictures of noise, a third malignant, most in colour; 'i07' has an empty mask."""
    source = np.random.default_rng(1)
    entries = []
    for number in range(40):
        mask = np.zeros((20, 24), np.uint8)
        if number != 7:
            mask[5 : 10 + number % 7, 5:15] = 1
        image = source.integers(60, 200, (20, 24, 3 if number % 4 else 1), dtype=np.uint8)
        label = "benign" if number % 3 else "malignant"
        entries.append(Entry(f"i{number:02}", Given(Sample(f"i{number:02}", image, mask, label, f"p{number // 2}"))))
    return write_records(entries, tmp_path_factory.mktemp("noise") / "set", DataSetSettings(), workers=1)


@pytest.fixture(scope="module")
def noise_parts(noise):
    names = [item.source_id for item in noise.index]
    return {"train": names[:32], "validation": names[32:36], "test": names[36:]}


SMOTE = ExpansionSettings(method="smote", size=16)


def test_smote_balances_regions_with_synthetic_ones(noise, noise_parts, tmp_path):
    made = expand_records(noise, noise_parts, tmp_path / "out", SMOTE, workers=1)
    found = read_splits(made.folder / "splits.json", made)
    assert (found["validation"], found["test"]) == (noise_parts["validation"], noise_parts["test"])
    before = {item.source_id: item for item in noise.index}
    in_training = [item for item in made.index if item.source_id in set(found["train"])]
    counts = collections.Counter(item.label for item in in_training)
    assert counts == {"benign": 20, "malignant": 20}  # 'i07' is left out
    synthetic = [item for item in made.index if item.attributes.get("synthetic")]
    assert len(synthetic) == 20 - 11
    for item in synthetic:
        assert item.patient_id == item.source_id and item.lesion_fraction is None and item in in_training
    for item in made.index:
        assert (item.height, item.width) == (16, 16)
        if item not in synthetic:
            assert item.lesion_fraction > 0 and item.patient_id == before[item.source_id].patient_id
    shapes = {sample.image.shape for sample in made.read([item.source_id for item in synthetic])}
    assert shapes == {(16, 16, 3)}
    assert [item["source_id"] for item in made.manifest["refused"]] == ["i07"]
    assert "empty mask" in made.manifest["refused"][0]["reason"]


def test_smote_sees_training_images_alone(noise, noise_parts, tmp_path):
    """Other pictures to test on, the same synthetic ones."""
    less = {**noise_parts, "validation": [], "test": noise_parts["test"][:2]}
    first, second = (
        [
            (item.source_id, item.sha256)
            for item in expand_records(noise, parts, tmp_path / name, SMOTE, workers=1).index
            if item.attributes.get("synthetic")
        ]
        for name, parts in (("whole", noise_parts), ("less", less))
    )
    assert first == second and first


def test_smote_makes_the_same_bytes_each_time_and_others_with_another_seed(noise, noise_parts, tmp_path):
    first, again, other = (
        expand_records(noise, noise_parts, tmp_path / name, SMOTE.model_copy(update={"seed": seed}), workers=1)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert contents(first.folder) == contents(again.folder)
    assert first.digest != other.digest


# --- the command ---


def test_the_command_expands_and_refuses(capsys, records, tmp_path):
    out = tmp_path / "out"
    words = ("expand", records.folder, "--out", out, "--workers", "1")
    code, printed, err = call(capsys, *words, "--count", "40", "--seed", "2")
    assert code == 0 and "train 40 (benign 20, malignant 20;" in printed, err
    assert len(read_splits(out / "splits.json", Records(out))["train"]) == 40
    assert "--overwrite" in refused(capsys, *words, "--count", "40")
    assert "expected --count of at least" in refused(capsys, *words, "--count", "7", "--overwrite")
    assert "leave out count" in refused(capsys, *words, "--count", "40", "--method", "smote")
    assert "these are the records to expand" in refused(capsys, "expand", records.folder, "--out", records.folder)
    assert "no such file" in refused(capsys, *words, "--splits", tmp_path / "none.json")


def test_the_command_makes_regions(capsys, noise, noise_parts, tmp_path):
    write_splits(tmp_path / "splits.json", noise_parts, {})
    words = ("expand", noise.folder, "--splits", tmp_path / "splits.json", "--out", tmp_path / "out", "--json")
    code, printed, err = call(capsys, *words, "--method", "smote", "--size", "24", "--workers", "1")
    assert code == 0 and "1 images were left out:\n  i07: expected a lesion" in err
    assert json.loads(printed)["train"] == 40
    assert {item.height for item in Records(tmp_path / "out").index} == {24}


def test_classes_too_small_for_smote_are_answered(capsys, records, parts, tmp_path):
    labels = {item.source_id: item.label for item in records.index}
    rare = [name for name in parts["train"] if labels[name] == "malignant"]
    write_splits(tmp_path / "few.json", {**parts, "train": [n for n in parts["train"] if n not in rare[3:]]}, {})
    words = ("--splits", tmp_path / "few.json", "--out", tmp_path / "out", "--method", "smote")
    assert "class 'malignant': Borderline-SMOTE2 needs at least 6" in refused(capsys, "expand", records.folder, *words)


def test_expanding_needs_no_tensorflow():
    script = "import sys, ustoolkit.data.expand; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
