"""Classification on the command line, with right and wrong input: one clear message, and nothing half made."""

import dataclasses
import json
import shutil
import types

import numpy as np
import pytest

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, recipe_of, trained, words_of
from tests.data.test_split import row
from tests.test_cli import call, refused
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import write_records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import write_splits
from ustoolkit.errors import RecordsError
from ustoolkit.recipe import DataSetSettings
from ustoolkit.run import Run
from ustoolkit.training.start import check_labels


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """Loads a sample that is there already."""

    sample: Sample

    def __call__(self):
        return self.sample


def records_of(folder, malignant=10, benign=12, mask=True, attributes=None):
    """Records of noise with a bright square, each image a patient; a third of each label is validated on."""
    source, samples = np.random.default_rng(0), []
    for label, count in (("benign", benign), ("malignant", malignant)):
        for number in range(count):
            image = source.integers(0, 120, (32, 32, 1), np.uint8)
            image[8:20, 8:20] += 60 if label == "malignant" else 20
            drawn = np.zeros((32, 32), np.uint8)
            drawn[8:20, 8 : 18 + number % 4] = 1
            drawn = {True: drawn, False: None, "empty": np.zeros_like(drawn)}[mask]
            name = f"{label}{number:02}"
            samples.append(Sample(name, image, drawn, label, name, attributes=dict(attributes or {})))
    entries = [Entry(sample.source_id, Stored(sample)) for sample in samples]
    made = write_records(entries, folder, DataSetSettings(), workers=1)
    names = [row.source_id for row in made.index]
    parts = {"train": [], "validation": [], "test": []}
    for name in names:
        parts["validation" if int(name[-2:]) % 3 == 1 else "train"].append(name)
    write_splits(folder / "splits.json", parts, {})
    return made


def train_words(records, out, form, *changes):
    return [
        "train",
        *words_of(form, *changes)[:1],
        "--records",
        records.folder,
        "--out",
        out,
        *words_of(form, *changes)[1:],
    ]


def refused_training(capsys, records, out, form, *changes):
    message = refused(capsys, *train_words(records, out, form, *changes))
    assert not out.exists(), sorted(out.rglob("*"))
    return message


@pytest.fixture(scope="module")
def measured(labelled_records):
    return trained(labelled_records, MEASURES)


def test_train_evaluate_fuse_and_compare(capsys, labelled_records, tmp_path):
    runs = []
    for name, form in (("frozen", BOTTLENECK), ("measured", MEASURES)):
        out = tmp_path / name
        code, text, err = call(capsys, *train_words(labelled_records, out, form))
        assert code == 0, err
        assert "validation AUC" in text and "'malignant' from a probability of" in text and "chosen by" in err
        code, text, err = call(capsys, "evaluate", out)
        assert code == 0, err
        assert "by patient" in text and "ROC AUC" in text and list((out / "evaluation" / "test").glob("*.png"))
        runs.append(out)
    code, text, err = call(capsys, "fuse", *runs, "--how", "equal", "--out", tmp_path / "fused")
    assert code == 0 and text.count("0.500") == 2, err
    code, text, err = call(capsys, "evaluate", tmp_path / "fused", "--json")
    assert code == 0, err
    assert json.loads(text)["labels"] == ["benign", "malignant"]
    code, text, err = call(capsys, "compare", tmp_path / "fused", runs[0], "--json")
    result = json.loads(text)
    assert code == 0 and {"by_image", "by_patient"} <= set(result), err
    code, text, _ = call(capsys, "compare", runs[0], runs[0])
    assert code == 0 and "+0.0000" in text


def test_a_cluster_is_refused_before_anything_is_made(capsys, labelled_records, tmp_path, monkeypatch):
    workers = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    out = tmp_path / "run"
    told = refused(capsys, "train", "fast_classifier", "--records", labelled_records.folder, "--out", out)
    assert "networks that classify are trained in one process" in told and "--strategy mirrored" in told
    assert not out.exists()


def test_a_fine_tuning_run_that_was_killed_is_resumed(capsys, labelled_records, tmp_path):
    whole, killed = trained(labelled_records, FINE_TUNING), tmp_path / "killed"
    shutil.copytree(whole.folder, killed)
    (killed / "decision.json").unlink()
    (killed / "last.weights.h5").unlink()
    last = max(killed.glob("checkpoints/ckpt-*.index"), key=lambda path: int(path.stem.partition("-")[2]))
    for path in killed.glob(f"checkpoints/{last.stem}.*"):
        path.unlink()
    Run(killed).update(status="training")
    words = ["train", "lymph_node_densenet161", "--records", labelled_records.folder, "--out", killed]
    code, text, err = call(capsys, *words, "--resume")
    assert code == 0 and "validation AUC" in text, err
    for name in ("decision.json", "best.weights.h5"):
        assert (killed / name).is_file()
    assert Run(killed).state["best_validation_auc"] == whole.state["best_validation_auc"]
    assert json.loads((killed / "decision.json").read_text()) == json.loads(
        (whole.folder / "decision.json").read_text()
    )


class TestTrainingThatCannotBegin:
    def test_one_label_in_a_part(self, capsys, tmp_path):
        records = records_of(tmp_path / "records")
        names = [row.source_id for row in records.index]
        parts = {"train": names[2:], "validation": names[:2], "test": []}
        write_splits(records.folder / "splits.json", parts, {})
        message = refused_training(capsys, records, tmp_path / "run", MEASURES)
        assert "in the part 'validation', found only benign" in message and "--seed" in message

    def test_a_label_that_only_validation_has(self, tmp_path):
        labels = {"a": "benign", "b": "malignant", "c": "benign", "d": "malignant", "e": "normal"}
        records = types.SimpleNamespace(folder=tmp_path, index=[row(name, name, labels[name]) for name in labels])
        parts = {"train": ["a", "b"], "validation": ["c", "d", "e"], "test": []}
        with pytest.raises(RecordsError, match=r"benign, malignant in the part 'validation'.*found 'normal' too"):
            check_labels(parts, records, recipe_of(MEASURES))

    def test_no_such_positive_label(self, capsys, tmp_path):
        records = records_of(tmp_path / "records")
        for form in (FINE_TUNING, BOTTLENECK, MEASURES):
            message = refused_training(capsys, records, tmp_path / "run", form, "classification.positive=cancer")
            assert "'cancer' and others, found benign, malignant" in message and "--set classification" in message

    @pytest.mark.parametrize("mask", ["empty", False])
    def test_no_lesion_is_drawn(self, capsys, tmp_path, mask):
        records = records_of(tmp_path / "records", mask=mask)
        for form in (FINE_TUNING, BOTTLENECK, MEASURES):
            message = refused_training(capsys, records, tmp_path / "run", form)
            assert "no lesion to cut out" in message and "'image' or 'predicted'" in message

    @pytest.mark.parametrize("attributes", [{}, {"lesion_box": "left"}, {"lesion_box": [40, 40, 3, 3]}])
    def test_no_box_or_a_bad_one(self, capsys, tmp_path, attributes):
        records = records_of(tmp_path / "records", mask=False, attributes=attributes)
        for form in (FINE_TUNING, BOTTLENECK, MEASURES):
            message = refused_training(capsys, records, tmp_path / "run", form, "classification.region.source=box")
            assert "'lesion_box'" in message and "within 32 × 32 pixels" in message

    @pytest.mark.parametrize(("form", "smote"), [(FINE_TUNING, "pixels"), (BOTTLENECK, "features")])
    def test_five_images_for_smote(self, capsys, tmp_path, form, smote):
        records = records_of(tmp_path / "records", malignant=7)
        changes = (f"classification.balance.smote={smote}", "classification.balance.expand_to=0")
        message = refused_training(capsys, records, tmp_path / "run", form, *changes)
        assert "'malignant': Borderline-SMOTE2 needs at least 6 training images, found 5" in message
        # Classification has no --method; its remedy is a setting.
        assert "--method" not in message and "classification.balance" in message

    def test_too_few_images_asked_for(self, capsys, tmp_path):
        records = records_of(tmp_path / "records")
        for form, changes in (
            (FINE_TUNING, ()),
            (BOTTLENECK, ()),
            (BOTTLENECK, ("classification.balance.smote=off",)),
        ):
            changes = (*changes, "classification.balance.expand_to=7")
            message = refused_training(capsys, records, tmp_path / "run", form, *changes)
            assert "classification.balance.expand_to of at least" in message and "found 7" in message
            assert "''" not in message

    def test_settings_that_do_not_fit(self, capsys, tmp_path):
        records = records_of(tmp_path / "records", malignant=4, benign=4)
        assert "families" in refused_training(capsys, records, tmp_path / "run", MEASURES, "model.families=[]")
        out = ["--records", records.folder, "--out", tmp_path / "run"]
        message = refused(capsys, "train", "lesion_features", *out, "--set", "model.name=unet")
        assert "[classification] is for networks that classify, and unet segments" in message
        assert not (tmp_path / "run").exists()

    def test_a_segmenter_that_is_none(self, capsys, tmp_path, measured):
        records = records_of(tmp_path / "records")
        for segmenter, answer in (("nothing", "found nothing"), (measured.folder, "found one that classifies")):
            changes = ("classification.region.source=predicted", f"classification.region.segmenters=['{segmenter}']")
            assert answer in refused_training(capsys, records, tmp_path / "run", MEASURES, *changes)


@pytest.mark.slow
def test_a_box_and_a_whole_image_need_no_mask(capsys, tmp_path):
    records = records_of(tmp_path / "records", mask=False, attributes={"lesion_box": "[8, 8, 12, 12]"})
    for source in ("box", "image"):
        changes = (f"classification.region.source={source}", "classification.balance.smote=off")
        out = tmp_path / source
        code, _, err = call(capsys, *train_words(records, out, BOTTLENECK, *changes))
        assert code == 0, err
        assert "mask" not in err
        code, text, err = call(capsys, "evaluate", out, "--split", "validation")
        assert code == 0 and "ROC AUC" in text, err


class TestOtherCommandsOnAClassifier:
    @pytest.mark.parametrize(
        ("command", "instead"),
        [
            ("tune-crf", "ustoolkit diagnose"),
            ("tune-threshold", "ustoolkit diagnose"),
            ("predict", "ustoolkit diagnose"),
            ("export", "--segmenter"),
        ],
    )
    def test_they_say_what_to_do_instead(self, capsys, measured, tmp_path, phantom_folder, command, instead):
        before = sorted(measured.folder.rglob("*"))
        words = [command, measured.folder]
        if command == "predict":
            words += [phantom_folder / "images" / "phantom_0003.png", "--out", tmp_path / "out"]
        message = refused(capsys, *words)
        assert message.startswith(f"ustoolkit: {measured.folder}: expected ") and instead in message
        assert sorted(measured.folder.rglob("*")) == before and not (tmp_path / "out").exists()

    @pytest.mark.parametrize("flag", ["--crf", "--all-components"])
    def test_evaluate_takes_no_settings_of_masks(self, capsys, measured, flag):
        assert "for runs that segment" in refused(capsys, "evaluate", measured.folder, flag)


class TestWrongUse:
    def test_a_segmenter_for_a_run_that_segments(self, capsys, trained_run):
        message = refused(capsys, "evaluate", trained_run.folder, "--segmenter", trained_run.folder)
        assert "--segmenter is for runs that classify" in message

    def test_evaluate_on_an_unknown_part(self, capsys, measured):
        assert "expected one of train, validation, test, all" in refused(
            capsys, "evaluate", measured.folder, "--split", "tests"
        )

    def test_compare_without_an_evaluation(self, capsys, measured, trained_run, tmp_path):
        for first in (measured.folder, trained_run.folder):
            message = refused(capsys, "compare", first, first, "--split", "nowhere")
            assert "expected an evaluation 'nowhere', found none" in message and "ustoolkit evaluate" in message
        nothing = tmp_path / "nothing"
        assert f"{nothing}: there is no such folder" in refused(capsys, "compare", nothing, measured.folder)

    def test_compare_of_other_images(self, capsys, measured):
        for part in ("test", "validation"):
            assert call(capsys, "evaluate", measured.folder, "--split", part)[0] == 0
        folders = [measured.folder / "evaluation" / part for part in ("test", "validation")]
        assert "found others. Evaluate both on one part" in refused(capsys, "compare", *folders)

    def test_compare_of_another_positive_label(self, capsys, measured, tmp_path):
        assert call(capsys, "evaluate", measured.folder, "--split", "test")[0] == 0
        own = measured.folder / "evaluation" / "test"
        other = shutil.copytree(own, tmp_path / "other")
        tables = json.loads((other / "metrics.json").read_text())
        (other / "metrics.json").write_text(json.dumps({**tables, "labels": tables["labels"][::-1]}))
        assert "'malignant'" in refused(capsys, "compare", own, other)

    def test_fuse_of_one_run_of_one_that_segments_and_of_none(self, capsys, measured, trained_run, tmp_path):
        out = ["--out", tmp_path / "fused"]
        assert "two runs or more" in refused(capsys, "fuse", measured.folder, *out)
        for runs in ([trained_run.folder, measured.folder], [measured.folder, trained_run.folder]):
            message = refused(capsys, "fuse", *runs, *out)
            assert "which segments" in message or "was not trained on" in message
        assert "found nothing" in refused(capsys, "fuse", measured.folder, tmp_path / "nothing", *out)
        assert not (tmp_path / "fused").exists()
