"""The study of classification: what is planned, what is fused, and its tables from hand-made evaluations."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from tests.studies.classifiers import LESIONS, scored, toy_classifiers, toy_networks, write_evaluation
from tests.studies.runs import finish, options, other_records
from ustoolkit.errors import RecipeError, RunError
from ustoolkit.files import write_json
from ustoolkit.recipe.networks import BackboneFcnSettings
from ustoolkit.studies import STUDIES
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.classification_arms import NETWORK_ARMS, NetworkArm
from ustoolkit.studies.classification_rows import effect_rows, fusion_rows, network_rows
from ustoolkit.studies.classification_scores import ClassifierScores, read_classifiers
from ustoolkit.studies.classification_tables import tabulate_classification
from ustoolkit.studies.plan import PlannedFusion, chosen_runs, plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.stages import FinishedRuns, StudyData, commands_of, survey
from ustoolkit.studies.table_files import markdown_table

POSITIVE = [1, 0, 1, 0, 1, 0]
PERFECT, CHANCE = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3], [0.5] * 6


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return other_records(tmp_path_factory.mktemp("others"))


@pytest.fixture
def asked(records, others, tmp_path):
    return options(records, tmp_path / "study", seeds=1, preview=True, pretraining_records=others.folder)


def by_name(asked, study=None):
    return {run.name: run for run in plan_runs(study or toy_classifiers(), asked)}


def run_of(probability, tmp_path, seed=0, positive=POSITIVE, patients=None):
    found = scored(positive, probability, patients)
    values = {"sensitivity": 0.5, "specificity": 0.75, "accuracy": 0.625, "roc_auc": float(np.mean(probability))}
    metrics = {"image": values, "patient": {**values, "roc_auc": 0.25}}
    return ClassifierScores(tmp_path, seed, {"image": found, "patient": found}, metrics, 0.9, 2.0)


def finish_all(asked, records, others):
    """Every run and fusion: trained, fused and scored."""
    for run in by_name(asked).values():
        if isinstance(run, PlannedFusion):
            content = {"runs": [str(member.resolve()) for member in run.members], "fusion": {"how": run.arm.how}}
            run.folder.mkdir(parents=True)
            write_json(run.folder / "fusion.json", content)
        else:
            finish(run, others if run.pretraining else records, lambda name: 0.5, scored=False)
            write_json(run.folder / "decision.json", {})
            os.utime(run.folder / "decision.json", (0, 0))
        if not run.pretraining:
            write_evaluation(run.folder / "evaluation" / "test", scored(POSITIVE, PERFECT))
    (asked.out / "study.json").write_text('{"study": "toy-classes"}')


@pytest.mark.parametrize("preview", [False, True])
def test_the_study_has_every_combination_once_from_one_pre_training_a_network(preview, tmp_path):
    asked = StudyOptions(tmp_path, tmp_path, seeds=1, preview=preview, pretraining_records=tmp_path)
    planned = by_name(asked, replace(STUDIES["lymph-node"], comparisons=(), arms=STUDIES["lymph-node"].arms[16:]))
    networks = [run for run in planned.values() if not isinstance(run, PlannedFusion) and run.needs]
    assert len(networks) == 24 and len(planned) == 3 + 24 + 1 + 4
    seen = set()
    for run in networks:
        first, settings = planned[run.needs[0]].recipe, run.recipe.classification
        assert isinstance(first.model, BackboneFcnSettings) and first.model.classifier == run.recipe.model
        assert first.data.channels == run.recipe.data.channels and first.training.learning_rate == 1e-3
        assert run.recipe.model.weights == "off"
        kind = (run.recipe.model.name, settings.transfer.form, settings.balance.expand_to, settings.balance.smote)
        seen.add(kind)
        assert kind[3] in ("off", {"bottleneck": "features", "fine_tuning": "pixels"}[kind[1]])
        if preview and kind[1] == "fine_tuning":
            assert run.recipe.training.epochs == 2
    assert len(seen) == 24 and {kind[2] for kind in seen} == {2000, 3000}
    assert "--preview" not in commands_of(planned["lesion-features/seed0"], "absent", asked)[0]


def test_what_the_user_sets_is_stronger_than_a_preview_and_stays_with_the_classifier(asked):
    changes = ("training.epochs=1", "model.dropout=0.25", "classification.region.margin=0.5")
    runs = by_name(replace(asked, changes=changes, only=(toy_networks()[2].name,)), only_networks())
    first, tuned = runs["pretraining/densenet161"].recipe, runs[f"{toy_networks()[2].name}/seed0"].recipe
    assert first.training.epochs == tuned.training.epochs == 1
    assert tuned.classification.region.margin == 0.5 and tuned.model.dropout == first.model.classifier.dropout == 0.25


def only_networks():
    return replace(toy_classifiers(), arms=toy_classifiers().arms[1:], fusions=())


def test_fusions_come_after_the_runs_of_their_seed(asked):
    names = list(by_name(replace(asked, seeds=2)))
    arms = [LESIONS.name, *(each.name for each in toy_networks())]
    expected = ["pretraining/densenet161"]
    for seed in range(2):
        expected += [f"{name}/seed{seed}" for name in (*arms, "fusion-two", "fusion-all")]
    assert names == expected


def test_only_a_fusion_brings_its_runs_and_their_pre_training(asked):
    planned = plan_runs(toy_classifiers(), asked)
    names = [run.name for run in chosen_runs(planned, ("fusion-all",))]
    assert names == [
        "pretraining/densenet161",
        "lesion-features/seed0",
        f"{toy_networks()[0].name}/seed0",
        "fusion-all/seed0",
    ]


def test_without_records_to_pre_train_on_fusions_are_left_out_too(asked):
    without = replace(asked, pretraining_records=None)
    assert list(by_name(without)) == ["lesion-features/seed0"]
    with pytest.raises(RecipeError, match="needs pre-training"):
        plan_runs(toy_classifiers(), replace(without, only=("fusion-all",)))


def test_a_fusion_goes_through_its_stages(asked, records, others):
    finish_all(asked, records, others)
    runs = by_name(asked)
    planned, fused = list(runs.values()), runs["fusion-all/seed0"]
    stage = lambda: survey(planned, StudyData(asked))[fused.name][0]  # noqa: E731
    assert stage() == "finished" and commands_of(fused, "finished", asked) == ()
    decision = fused.members[0] / "decision.json"
    os.utime(decision)
    os.utime(fused.folder / "fusion.json", (1, 1))
    assert stage() == "absent", "a run was trained anew since"
    os.utime(decision, (0, 0))
    (fused.folder / "evaluation" / "test" / "metrics.json").unlink()
    assert stage() == "trained"
    assert [command[0] for command in commands_of(fused, "trained", asked)] == ["evaluate"]
    fuse, evaluate = commands_of(fused, "absent", asked)
    assert fuse[:3] == ("fuse", *map(str, fused.members)) and "equal" in fuse and evaluate[0] == "evaluate"
    (fused.folder / "fusion.json").write_text("{")
    assert stage() == "absent"
    other = by_name(asked, toy_classifiers(how="simplex"))
    assert survey(list(other.values()), StudyData(asked))["fusion-two/seed0"][0] == "absent", "by another rule"


def test_a_classifier_without_its_threshold_goes_on_and_so_do_its_fusions(asked, records, others):
    finish_all(asked, records, others)
    planned = plan_runs(toy_classifiers(), asked)
    run = next(run for run in planned if run.arm.name == LESIONS.name)
    (run.folder / "decision.json").unlink()
    found = survey(planned, StudyData(asked))
    assert found[run.name][0] == "begun" and "--resume" in commands_of(run, "begun", asked)[0]
    assert (found["fusion-all/seed0"][0], found["fusion-two/seed0"][0]) == ("absent", "finished")


def test_a_finished_study_is_tables_only(asked, records, others):
    finish_all(asked, records, others)
    result = run_study(toy_classifiers(), asked, lambda line, changed: None)
    assert {run["status"] for run in result["runs"].values()} == {"finished"}
    assert list(result["tables"]) == ["networks", "fusions", "effects"]
    for name in result["tables"]:
        page = (asked.out / f"{name}.md").read_text()
        assert "6 images of 6 patients" in page and "Previews" in page and "nan" not in page
        assert (asked.out / f"{name}.csv").is_file()
    assert "fused equally" not in result["tables"]["fusions"][0]["label"]


def test_networks_by_hand_beside_what_was_printed(tmp_path):
    networks = (NetworkArm("resnet50", 2000, False, "bottleneck"), NetworkArm("vgg16", 2000, False, "bottleneck"))
    runs = [run_of([value] * 6, tmp_path, seed) for seed, value in enumerate((0.6, 0.8))]
    first, second = network_rows({networks[0].name: runs}, networks)
    assert first["roc_auc_mean"] == pytest.approx(0.7) and first["roc_auc_deviation"] == pytest.approx(0.02**0.5)
    assert first["patient_roc_auc_mean"] == 0.25 and first["sensitivity_mean"] == 0.5 and first["seeds"] == 2
    assert (first["printed_sensitivity"], first["printed_roc_auc"]) == (0.867, 0.848)
    assert second["seeds"] == 0 and np.isnan(second["roc_auc_mean"]) and np.isnan(second["printed_accuracy"])


def test_each_effect_is_the_mean_over_pairs_that_differ_in_nothing_else(tmp_path):
    # With SMOTE the order is perfect, without it all are tied: half of an area more, in every pair.
    scores = {each.name: [run_of(PERFECT if each.smote else CHANCE, tmp_path)] for each in NETWORK_ARMS}
    rows = {(row["change"], row["unit"]): row for row in effect_rows(scores, NETWORK_ARMS)}
    smote = rows["SMOTE against none", "image"]
    assert (smote["pairs"], smote["seeds"], smote["verdict"]) == (12, 1, "better")
    assert smote["difference"] == pytest.approx(0.5) == smote["interval_low"]
    for change in ("3,000 images against 2,000", "fine-tuning against bottleneck features"):
        assert rows[change, "patient"]["difference"] == pytest.approx(0) and rows[change, "patient"]["pairs"] == 12


def test_an_effect_is_of_seeds_in_which_both_sides_are_there(tmp_path):
    off, on, _ = toy_networks()
    scores = {
        off.name: [run_of(CHANCE, tmp_path, seed) for seed in (0, 1)],
        on.name: [run_of(PERFECT, tmp_path, 1), run_of(CHANCE, tmp_path, 2)],
    }
    row = effect_rows(scores, (off, on))[0]
    assert (row["pairs"], row["seeds"]) == (1, 1) and row["difference"] == pytest.approx(0.5)
    assert effect_rows({}, (off, on))[0]["seeds"] == 0


def test_fusions_are_tested_against_lesion_features_with_seeds_averaged(tmp_path):
    generator = np.random.default_rng(0)
    positive = [1, 0] * 30
    weak = np.clip(0.5 + 0.1 * np.array(positive) + 0.3 * generator.normal(size=60), 0, 1)
    strong = np.clip(0.1 + 0.8 * np.array(positive) + 0.1 * generator.normal(size=60), 0, 1)
    scores = {
        LESIONS.name: [run_of(weak, tmp_path, 0, positive)],
        "fusion-all": [run_of(strong, tmp_path, seed, positive) for seed in (0, 1)],
    }
    labels = {LESIONS.name: "lesion features", "fusion-all": "all", "fusion-two": "two"}
    own, fused, missing = fusion_rows(scores, labels)
    assert own["verdict"] == "" and np.isnan(own["difference"]) and np.isnan(own["p_value"])
    assert fused["verdict"] == "better" and fused["p_value"] < 0.01
    assert fused["difference"] == pytest.approx(fused["averaged_auc"] - own["averaged_auc"])
    assert fused["brier"] == pytest.approx(np.mean((strong - np.array(positive)) ** 2))
    assert missing["seeds"] == 0 and np.isnan(missing["roc_auc"]) and missing["verdict"] == ""


def test_the_best_are_named_with_what_they_were_chosen_on(asked, records, others):
    finish_all(asked, records, others)
    planned = by_name(asked)
    write_evaluation(planned["fusion-two/seed0"].folder / "evaluation" / "test", scored(POSITIVE, CHANCE))
    network = planned[f"{toy_networks()[1].name}/seed0"]
    state = json.loads((network.folder / "run.json").read_text())
    write_json(network.folder / "run.json", {**state, "best_validation_auc": 0.75})
    page = run_study(toy_classifiers(), asked, lambda line, changed: None) and (asked.out / "fusions.md").read_text()
    assert f"on the validation part (0.750): {toy_networks()[1].label}" in page
    assert "Best fusion, chosen on the test part itself, which flatters it: fusion-all, AUC by patient 1.000" in page


def test_no_run_at_all_makes_tables_that_say_so(asked):
    networks, fusions = toy_networks(), toy_classifiers().fusions
    finished = FinishedRuns([], asked, {"lesion-features/seed0": "failed"}, {"one": "--some-records"})
    for table in tabulate_classification(finished, networks, fusions):
        text = markdown_table(table.header, table.lines)
        assert "missing" in text and "nan" not in text and table.rows
        assert "lesion-features/seed0 (failed)" in table.about
        assert "Not trained: one. They need --some-records." in table.about


def test_runs_tested_on_other_images_are_refused(asked, records, others):
    finish_all(asked, records, others)
    changed = by_name(asked)["fusion-all/seed0"].folder / "evaluation" / "test"
    write_evaluation(changed, scored(POSITIVE, PERFECT, prefix="another"))
    with pytest.raises(RunError, match=r"fusion-all.*found others"):
        run_study(toy_classifiers(), asked, lambda line, changed: None)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.json", '{"labels": []}', r"metrics\.json: expected scores of a classifier"),
        ("metrics.json", "[", r"metrics\.json"),
        ("per_image.csv", "source_id\nscan0\n", r"per_image\.csv: expected a table of probabilities"),
        ("per_patient.csv", None, r"per_patient\.csv: expected a table of probabilities"),
    ],
)
def test_a_damaged_evaluation_is_refused(asked, tmp_path, file, content, message):
    planned = by_name(asked)["lesion-features/seed0"]
    folder = planned.folder / "evaluation" / "test"
    write_evaluation(folder, scored(POSITIVE, PERFECT))
    assert read_classifiers([planned])[LESIONS.name][0].metrics["image"]["roc_auc"] == 1
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(RunError, match=message):
        read_classifiers([planned])


@pytest.mark.slow
def test_a_study_of_classifiers_from_end_to_end(asked, tmp_path):
    labelled = other_records(tmp_path / "labelled", 72).folder  # fewer have too few of a label for SMOTE
    asked = replace(asked, records=labelled, changes=("training.epochs=1", "training.batch_size=8"), seeds=2)
    result = run_study(toy_classifiers(), asked, lambda line, changed: None)
    assert {run["status"] for run in result["runs"].values()} == {"finished"}, result["runs"]
    assert all(row["seeds"] == 2 and 0 <= row["roc_auc_mean"] <= 1 for row in result["tables"]["networks"])
    assert [row["seeds"] for row in result["tables"]["fusions"]] == [2] * 4
    state = json.loads((asked.out / "runs" / toy_networks()[0].name / "seed0" / "run.json").read_text())
    assert any("backbone/" in name for name in state["initial_weights"]["layers"])
    lines = []
    run_study(toy_classifiers(), asked, lambda line, changed: lines.append(line))
    assert not lines, "what was finished was run again"
