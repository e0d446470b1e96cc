import json

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as hypothesis_settings
from scipy.special import expit, softmax
from sklearn.metrics import log_loss, roc_auc_score

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.fusion import Fusion, fit_fusion

HOWS = ("equal", "auc", "simplex", "stacked")


def sample(seed, n=150, noise=(1.0, 2.0, 4.0), labels=2):
    """Runs that see the same image through more or less noise."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % labels
    seen = 2 * np.eye(labels)[truth]
    return softmax([seen + level * generator.normal(size=(n, labels)) for level in noise], axis=2), truth


@given(strategies.integers(0, 2**31), strategies.sampled_from(HOWS), strategies.integers(2, 4))
@hypothesis_settings(max_examples=5)
def test_fused_rows_are_probabilities_and_survive_json(seed, how, labels):
    probabilities, truth = sample(seed, 40, labels=labels)
    fusion = fit_fusion(probabilities, truth, how, np.repeat(np.arange(10), 4).astype(str))
    fused = fusion.apply(probabilities)
    assert fused.shape == (40, labels) and fused.sum(axis=1) == pytest.approx(1) and fused.min() >= 0
    again = Fusion.from_json(json.loads(json.dumps(fusion.to_json())))
    assert again == fusion and (again.apply(probabilities) == fused).all()


@pytest.mark.parametrize("how", ["equal", "auc", "simplex"])
def test_weights_lie_on_the_simplex_and_one_run_is_itself(how):
    probabilities, truth = sample(0)
    weights = fit_fusion(probabilities, truth, how).weights
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert fit_fusion(probabilities[:1], truth, how).apply(probabilities[:1]) == pytest.approx(probabilities[0])


def test_areas_make_weights():
    probabilities, truth = sample(1)
    above = [roc_auc_score(truth, rows[:, 1]) - 0.5 for rows in probabilities]
    weights = fit_fusion(probabilities, truth, "auc").weights
    assert weights == pytest.approx(np.array(above) / sum(above))
    upside_down = probabilities[:1, :, ::-1]
    both = np.concatenate([probabilities[:1], upside_down])
    assert fit_fusion(both, truth, "auc").weights == pytest.approx((1, 0))
    assert fit_fusion(np.concatenate([upside_down] * 2), truth, "auc").weights == (0.5, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_no_weights_have_a_lower_log_loss(seed):
    probabilities, truth = sample(seed, 60)
    best = log_loss(truth, fit_fusion(probabilities, truth, "simplex").apply(probabilities))
    for weights in np.random.default_rng(0).dirichlet(np.ones(3), size=300):
        assert best <= log_loss(truth, np.tensordot(weights, probabilities, axes=1)) + 1e-7


def test_a_run_that_knows_nothing_is_left_out():
    probabilities, truth = sample(2, n=2000, noise=(1.0,))
    guess = softmax(np.random.default_rng(1).normal(size=(1, 2000, 2)), axis=2)
    both = np.concatenate([probabilities, guess])
    assert fit_fusion(both, truth, "simplex").weights[0] > 0.95
    assert fit_fusion(both, truth, "auc").weights[0] > 0.85
    first, second = fit_fusion(both, truth, "stacked").coefficients[0]
    assert first > 0.5 and abs(second) < 0.25 * first


@pytest.mark.parametrize("labels", [2, 3])
def test_stacking_finds_how_the_truth_was_drawn(labels):
    generator, n = np.random.default_rng(3), 10_000
    odds = generator.normal(size=(2, n, labels - 1))
    logits = np.concatenate([np.zeros((n, 1)), 1.5 * odds[0] - 0.5 * odds[1] + 0.3], axis=1)
    truth = (generator.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1).clip(max=labels - 1)
    runs = softmax(np.concatenate([np.zeros((2, n, 1)), odds], axis=2), axis=2)
    fusion = fit_fusion(runs, truth, "stacked")
    expected = np.hstack([1.5 * np.eye(labels - 1), -0.5 * np.eye(labels - 1)])
    assert np.array(fusion.coefficients) == pytest.approx(expected, abs=0.15)
    assert fusion.intercepts == pytest.approx([0.3] * (labels - 1), abs=0.15)
    assert fusion.apply(runs) == pytest.approx(softmax(logits, axis=1), abs=0.05)


def test_stacking_of_two_labels_is_by_log_odds():
    probabilities, truth = sample(5, 80)
    fusion = fit_fusion(probabilities, truth, "stacked")
    odds = np.log(probabilities[:, :, 1] / probabilities[:, :, 0])
    assert fusion.apply(probabilities)[:, 1] == pytest.approx(
        expit(np.array(fusion.coefficients[0]) @ odds + fusion.intercepts[0])
    )


def test_penalty_is_chosen_by_patient():
    # Twelve runs of noise that is the same in all images of a patient: by image it seems to generalise, since each
    # fold has seen the other images of its patients; by patient it does not, and the penalty is stronger.
    generator = np.random.default_rng(11)
    patients = np.repeat(np.arange(16), 12)
    truth = patients % 2
    odds = generator.normal(size=(12, 16))[:, patients]
    runs = np.stack([expit(-odds), expit(odds)], axis=2)
    by_image = fit_fusion(runs, truth, "stacked")
    by_patient = fit_fusion(runs, truth, "stacked", patients.astype(str))
    assert np.linalg.norm(by_patient.coefficients) < 0.5 * np.linalg.norm(by_image.coefficients)


def test_few_patients_of_a_label_are_enough():
    probabilities, truth = sample(6, 20)
    groups = np.where(truth == 1, "only one", np.arange(20).astype(str))
    assert fit_fusion(probabilities, truth, "stacked", groups).how == "stacked"


def test_one_label_is_not_enough():
    probabilities, _ = sample(0, 12)
    for how in HOWS[1:]:
        with pytest.raises(DataError, match="choose fusion 'equal'"):
            fit_fusion(probabilities, np.ones(12, int), how)
    assert fit_fusion(probabilities, np.ones(12, int), "equal").weights == pytest.approx((1 / 3,) * 3)
    three, truth = sample(0, 12, labels=3)
    for how in ("auc", "stacked"):
        with pytest.raises(DataError, match="too few"):
            fit_fusion(three, np.minimum(truth, 1), how)


def test_messages_name_what_is_wrong():
    probabilities, truth = sample(0, 12)
    holed = probabilities.copy()
    holed[1, 3] = np.nan
    with pytest.raises(DataError, match="run 2 of 3 are not finite"):
        fit_fusion(holed, truth, "equal")
    fusion = fit_fusion(probabilities, truth, "auc")
    with pytest.raises(DataError, match="run 2 of 3"):
        fusion.apply(holed)
    with pytest.raises(ShapeError, match="expected 3 runs and 2 labels"):
        fusion.apply(probabilities[:2])
    with pytest.raises(ShapeError, match="Stack what each run predicts"):
        fusion.apply(probabilities[0])
    with pytest.raises(ShapeError, match="differ in shape"):
        fit_fusion([probabilities[0], probabilities[1][:4]], truth, "equal")
    with pytest.raises(DataError, match="'best' is unknown"):
        fit_fusion(probabilities, truth, "best")
    stored = fusion.to_json()
    for broken in (
        {},
        [],
        {**stored, "how": "best"},
        {**stored, "weights": [1]},
        {**stored, "runs": "three"},
        {**stored, "weights": [float("nan"), 0, 1]},
        {**stored, "how": "stacked"},
    ):
        with pytest.raises(DataError, match="Fit it again"):
            Fusion.from_json(broken)
