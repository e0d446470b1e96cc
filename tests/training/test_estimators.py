"""A classifier of features is chosen without dividing patients, and is read back as it was written."""

import json

import numpy as np
import pytest
import skops.io
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from ustoolkit.errors import DataError, RecipeError, RecordsError, RunError, ShapeError
from ustoolkit.recipe.classification import BalanceSettings, ClassificationSettings, TransferSettings
from ustoolkit.training.estimator_candidates import CANDIDATES, Candidate, drawn_for, fit_sigmoids
from ustoolkit.training.estimator_part import checked_part, draw_folds
from ustoolkit.training.estimators import ChosenEstimator, choose_estimator

ALL = ("logistic", "svm", "forest", "boosting", "dense")


def settings(estimators=("logistic",), folds=2, **balance):
    return ClassificationSettings(
        transfer=TransferSettings(estimators=estimators, inner_folds=folds), balance=BalanceSettings(**balance)
    )


def part(n=120, d=6, distance=2.0, share=0.4, images=2, labels=2, seed=0):
    """Features of which three differ between labels; `images` in a row are of one patient."""
    source = np.random.default_rng(seed)
    chances = [1 - share, share] if labels == 2 else [1 / labels] * labels
    truth = source.choice(labels, n, p=chances)
    features = source.normal(size=(n, d)).astype(np.float32)
    features[:, :3] += distance * truth[:, np.newaxis]
    return features, truth, np.array([f"patient {number // images}" for number in range(n)])


def test_separable_labels_are_told_apart_by_every_candidate():
    features, truth, groups = part(distance=6.0)
    found = choose_estimator(features, truth, groups, settings(ALL), seed=1)
    assert set(found.scores) == {*ALL, "mean"}
    assert min(found.scores.values()) > 0.98
    again, again_truth, _ = part(distance=6.0, seed=5)
    assert roc_auc_score(again_truth, found.probability(again)[:, -1]) > 0.99
    assert ((found.probability(again)[:, -1] > 0.5) == again_truth).mean() > 0.97


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", ALL)
def test_probabilities_are_a_row_of_labels_that_sums_to_one(name, labels):
    features, truth, groups = part(labels=labels)
    found = choose_estimator(features, truth, groups, settings((name,)), seed=1, labels=["a", "b", "c"][:labels])
    assert found.name == name and set(found.scores) == {name}
    assert found.labels == ("a", "b", "c")[:labels]
    for probability in (found.probability(features), found.out_of_fold):
        assert probability.dtype == np.float64 and probability.shape == (len(features), labels)
        np.testing.assert_allclose(probability.sum(axis=1), 1)
        assert (probability.argmax(axis=1) == truth).mean() > 0.6
    assert found.probability(features[:0]).shape == (0, labels)


def test_features_of_chance_score_about_half():
    features, truth, groups = part(n=300, distance=0.0)
    found = choose_estimator(features, truth, groups, settings(("logistic", "svm", "forest"), folds=5), seed=0)
    assert all(0.35 < score < 0.65 for score in found.scores.values())


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", ["logistic", "svm"])
def test_the_score_is_the_mean_over_folds_of_what_is_out_of_fold(name, labels):
    features, truth, groups = part(distance=0.7, labels=labels)
    found = choose_estimator(features, truth, groups, settings((name,), folds=4), seed=4)
    folds = draw_folds(checked_part(features, truth, groups, None, None, None, None), 4, 4)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(truth)))
    expected = []
    for fold in folds:
        probability = found.out_of_fold[fold]
        given = probability[:, 1] if labels == 2 else probability
        expected.append(roc_auc_score(truth[fold], given, multi_class="ovr", average="macro"))
    assert found.scores[name] == pytest.approx(np.mean(expected), abs=1e-12)


def signed(patients=40, images=3, noise=0.01, seed=0):
    """Each patient's images look alike and like nobody else's, and his label says nothing but who he is."""
    source = np.random.default_rng(seed)
    truth = np.repeat(source.permutation(patients) % 2, images)
    looks = np.repeat(source.normal(size=(patients, 20)), images, axis=0)
    features = (looks + noise * source.normal(size=looks.shape)).astype(np.float32)
    return features, truth, np.array([f"patient {number // images}" for number in range(patients * images)])


def _nearest(parameters, class_weight, seed):
    return KNeighborsClassifier(1)


@pytest.mark.parametrize("balance", [{}, {"sampling": "balanced"}])
def test_a_patient_who_is_held_out_is_not_recognised_by_his_images_nor_their_copies(monkeypatch, balance):
    monkeypatch.setitem(CANDIDATES, "logistic", Candidate(_nearest, ({},)))
    features, truth, groups = signed()
    made = np.repeat([False, True], len(truth))
    both = np.concatenate([features, features + 0.001]), np.tile(truth, 2)
    found = choose_estimator(*both, np.tile(groups, 2), settings(folds=4, **balance), seed=0, made=made)
    assert found.scores["logistic"] < 0.7
    # The same with every image called another patient: now the nearest image gives the patient away.
    divided = [f"{number}" for number in range(2 * len(truth))]
    for position in np.flatnonzero(made):
        divided[position] = divided[(position + 1) % len(truth)]
    told = choose_estimator(*both, np.array(divided), settings(folds=4, **balance), seed=0, made=made)
    assert told.scores["logistic"] > 0.95


class Spy(ClassifierMixin, BaseEstimator):
    """Notes how many columns and rows it is fitted to, and how many rows it predicts each time."""

    seen = ()

    def fit(self, rows, truth):
        self.classes_ = np.unique(truth)
        self.noted_ = {"columns": rows.shape[1], "labels": np.bincount(truth).tolist(), "predicted": 0}
        Spy.seen = (*Spy.seen, self.noted_)
        return self

    def predict_proba(self, rows):
        self.noted_["predicted"] += len(rows)
        return np.full((len(rows), len(self.classes_)), 1 / len(self.classes_))


def marked(patients=40, images=3, seed=0):
    """Each patient has a column that is not constant only if an image of his, or made of one of his, is there."""
    source = np.random.default_rng(seed)
    truth = np.repeat(np.arange(patients) % 4 == 0, images).astype(np.int64)
    whose = np.repeat(np.arange(patients), images)
    mark = np.eye(patients)[whose]
    looks = source.normal(size=(len(truth), 5)) + 0.5 * truth[:, np.newaxis]
    return np.hstack([mark, looks]).astype(np.float32), truth, np.array([f"patient {number}" for number in whose])


@pytest.mark.parametrize("smote", ["off", "features"])
@pytest.mark.parametrize("copies", [False, True])
def test_nothing_made_of_a_held_out_patient_is_trained_on(monkeypatch, smote, copies):
    patients, images = 40, 3
    monkeypatch.setitem(CANDIDATES, "logistic", Candidate(lambda *_: Spy(), ({},)))
    monkeypatch.setattr(Spy, "seen", ())
    features, truth, groups = marked(patients, images)
    made = np.zeros(len(truth), bool)
    if copies:
        features, truth, groups = np.concatenate([features, features]), np.tile(truth, 2), np.tile(groups, 2)
        made = np.repeat([False, True], len(made))
    found = choose_estimator(features, truth, groups, settings(folds=4, smote=smote), seed=2, made=made)
    *folds, last = Spy.seen
    assert len(folds) == found.folds == 4
    for fold in folds:
        held_out = fold["predicted"] / images
        assert fold["columns"] == patients - held_out + 5
    assert sum(fold["predicted"] for fold in folds) == patients * images
    assert last["columns"] == patients + 5
    trained = sum(last["labels"])
    assert trained > len(truth) if smote == "features" else trained == len(truth)


def test_smote_and_balanced_sampling_change_what_is_trained_on_and_nothing_else(monkeypatch):
    monkeypatch.setitem(CANDIDATES, "logistic", Candidate(lambda *_: Spy(), ({},)))
    features, truth, groups = part(n=200, share=0.25, distance=0.5)
    noted = {}
    for name, balance in {"off": {}, "smote": {"smote": "features"}, "drawn": {"sampling": "balanced"}}.items():
        monkeypatch.setattr(Spy, "seen", ())
        found = choose_estimator(features, truth, groups, settings(**balance), seed=2)
        assert found.out_of_fold.shape == (200, 2) and np.isfinite(found.out_of_fold).all()
        noted[name] = Spy.seen
    for name in ("smote", "drawn"):
        for one, off in zip(noted[name], noted["off"], strict=True):
            assert one["labels"][0] == one["labels"][1] == off["labels"][0] > off["labels"][1]
            assert one["predicted"] == off["predicted"]


def test_copies_are_trained_on_and_never_scored():
    features, truth, groups = part(n=80, distance=1.0)
    copies, made = features[:30] + 0.1, np.arange(110) >= 80
    every = np.concatenate([features, copies]), np.tile(truth, 2)[:110], np.tile(groups, 2)[:110]
    found = choose_estimator(*every, settings(("svm",)), seed=0, made=made)
    assert np.isnan(found.out_of_fold[made]).all() and np.isfinite(found.out_of_fold[~made]).all()
    plain = choose_estimator(features, truth, groups, settings(("svm",)), seed=0)
    assert (plain.out_of_fold != found.out_of_fold[~made]).any()


def test_a_mixture_of_patients_joins_the_last_fit_only():
    features, truth, groups = part(n=80, distance=1.0)
    mixed = np.concatenate([features, features[:20] + 3]), np.concatenate([truth, 1 - truth[:20]])
    names, made = np.concatenate([groups, ["mixed"] * 20]), np.arange(100) >= 80
    found = choose_estimator(*mixed, names, settings(), seed=0, made=made)
    plain = choose_estimator(features, truth, groups, settings(), seed=0)
    np.testing.assert_array_equal(found.out_of_fold[:80], plain.out_of_fold)
    assert (found.probability(features) != plain.probability(features)).any()


def test_the_mean_is_the_average_of_the_candidates(monkeypatch):
    """Two candidates that each see one half of what tells the labels apart are best taken together."""

    class Half(ClassifierMixin, BaseEstimator):
        def __init__(self, column):
            self.column = column

        def fit(self, rows, truth):
            self.classes_ = np.unique(truth)
            return self

        def predict_proba(self, rows):
            positive = expit(rows[:, self.column])
            return np.stack([1 - positive, positive], axis=1)

    monkeypatch.setitem(CANDIDATES, "logistic", Candidate(lambda *_: Half(0), ({"half": 0},)))
    monkeypatch.setitem(CANDIDATES, "forest", Candidate(lambda *_: Half(1), ({"half": 1},)))
    features, truth, groups = part(n=400, distance=1.0)
    names = ("logistic", "forest")
    found = choose_estimator(features, truth, groups, settings(names), seed=0)
    alone = [choose_estimator(features, truth, groups, settings((name,)), seed=0) for name in names]
    assert found.name == "mean" and found.scores["mean"] > max(found.scores[name] for name in names)
    assert found.parameters == {"logistic": {"half": 0}, "forest": {"half": 1}}
    assert all("mean" not in one.scores for one in alone)
    np.testing.assert_allclose(found.out_of_fold, (alone[0].out_of_fold + alone[1].out_of_fold) / 2)
    given = features[:9]
    np.testing.assert_allclose(
        found.probability(given), (alone[0].probability(given) + alone[1].probability(given)) / 2
    )


@pytest.mark.parametrize("name", ALL)
def test_weights_raise_the_probability_of_their_label(name):
    features, truth, groups = part(n=150, share=0.2, distance=0.7)
    equal = choose_estimator(features, truth, groups, settings((name,)), seed=0).out_of_fold[:, 1]
    assert equal.mean() == pytest.approx(truth.mean(), abs=0.08)
    for weights in ("balanced", (1.0, 4.0)):
        balanced = choose_estimator(features, truth, groups, settings((name,), class_weights=weights), seed=0)
        assert balanced.out_of_fold[:, 1].mean() > equal.mean() + 0.03


def test_rows_drawn_stand_for_weights():
    truth = np.repeat([0, 1], [40, 10])
    assert drawn_for("balanced")(truth) == {0: 40, 1: 40}
    assert drawn_for({0: 1.0, 1: 3.0})(truth) == {0: 40, 1: 30}
    assert drawn_for({0: 3.0, 1: 2.0})(truth) == {0: 60, 1: 10}


def test_a_sigmoid_finds_the_slope_and_intercept_that_drew_the_labels():
    source = np.random.default_rng(0)
    decisions = source.normal(0, 2, (40_000, 1))
    truth = (source.random(40_000) < expit(1.5 * decisions[:, 0] - 0.5)).astype(np.int64)
    np.testing.assert_allclose(fit_sigmoids(decisions, truth, np.ones(2)), [[1.5, -0.5]], atol=0.06)
    # A falling one says that the decisions are worth nothing: the share of the label is what remains.
    flat = fit_sigmoids(-decisions, truth, np.ones(2))
    assert flat[0, 0] == 0 and expit(flat[0, 1]) == pytest.approx(truth.mean(), abs=1e-3)


def test_a_sigmoid_of_labels_without_overlap_is_finite():
    found = fit_sigmoids(np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]), np.ones(2))
    probability = expit(np.array([-2.0, 2.0]) * found[0, 0] + found[0, 1])
    # Platt's targets for two of each: 1/4 and 3/4, met by the pairs together
    assert 0.1 < probability[0] < 0.25 and 0.75 < probability[1] < 0.9


def test_many_features_are_reduced_and_still_tell_labels_apart():
    features, truth, groups = part(n=60, d=300, distance=4.0)
    found = choose_estimator(features, truth, groups, settings(("logistic", "boosting"), folds=5), seed=1)
    assert found.scores["logistic"] > 0.9
    assert found.preparation.transform(features).shape == (60, 59)


def test_constant_features_are_ignored():
    features, truth, groups = part()
    more = np.insert(features, [0, 3], 7.0, axis=1)
    with_them = choose_estimator(more, truth, groups, settings(), seed=0)
    without = choose_estimator(features, truth, groups, settings(), seed=0)
    np.testing.assert_array_equal(with_them.out_of_fold, without.out_of_fold)


def test_the_seed_decides():
    features, truth, groups = part(n=40, distance=0.5)
    first, second, other = (choose_estimator(features, truth, groups, settings(ALL), seed) for seed in (3, 3, 4))
    assert first.scores == second.scores and first.parameters == second.parameters
    np.testing.assert_array_equal(first.out_of_fold, second.out_of_fold)
    np.testing.assert_array_equal(first.probability(features), second.probability(features))
    assert (first.out_of_fold != other.out_of_fold).any()


@pytest.mark.parametrize("estimators", [*((name,) for name in ALL), ("logistic", "svm")])
@pytest.mark.parametrize("labels", [2, 3])
def test_what_is_saved_is_loaded_the_same(tmp_path, estimators, labels):
    features, truth, groups = part(n=60, labels=labels)
    names = [f"feature {number}" for number in range(6)]
    made = np.arange(60) >= 54
    found = choose_estimator(features, truth, groups, settings(estimators), 1, made=made, feature_names=names)
    found.save(tmp_path / "run")
    loaded = ChosenEstimator.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.probability(features), found.probability(features))
    np.testing.assert_array_equal(loaded.out_of_fold, found.out_of_fold)
    for field in ("name", "parameters", "scores", "labels", "feature_names", "number_of_features", "folds"):
        assert getattr(loaded, field) == getattr(found, field), field


@pytest.fixture(scope="module")
def saved():
    features, truth, groups = part(n=40)
    return choose_estimator(features, truth, groups, settings(), seed=1)


def _cut(folder):
    path = folder / "estimator.skops"
    path.write_bytes(path.read_bytes()[:-100])


def _flip(folder):
    path = folder / "estimator.skops"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _describe(**changed):
    def change(folder):
        path = folder / "estimator.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def _with(content):
    """Other content under its own right checksum."""
    import hashlib

    def change(folder):
        (folder / "estimator.skops").write_bytes(content)
        _describe(sha256=hashlib.sha256(content).hexdigest())(folder)

    return change


@pytest.mark.parametrize(
    ("damage", "answer"),
    [
        (_cut, r"estimator\.skops: expected SHA-256 .*damaged.*Train again"),
        (_flip, r"estimator\.skops: expected SHA-256 .*damaged.*Train again"),
        (lambda folder: (folder / "estimator.skops").unlink(), r"estimator\.skops: cannot be read .*Train again"),
        (lambda folder: (folder / "estimator.json").unlink(), r"estimator\.json: no such file.*Train again"),
        (lambda folder: (folder / "estimator.json").write_text("{"), r"estimator\.json: expected JSON"),
        (lambda folder: (folder / "estimator.json").write_text("[]"), r"estimator\.json: expected versions"),
        (_describe(scores=3), r"estimator\.json: expected a classifier's description.*Train again"),
        (
            _describe(versions={"scikit-learn": "0.1.2"}),
            r"expected scikit-learn 0\.1\.2, .*found \d.*Install scikit-learn==0\.1\.2, or train again",
        ),
        (_with(b"no zip"), "expected classifiers of scikit-learn.*found something else"),
        (_with(skops.io.dumps([1, 2])), "expected a table of classifiers, found list"),
        (_with(skops.io.dumps({"members": {"svm": Spy()}})), "found something else.*Spy"),
    ],
)
def test_damage_and_strange_types_are_answered(tmp_path, saved, damage, answer):
    saved.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(RunError, match=answer):
        ChosenEstimator.load(tmp_path)


def test_features_that_are_no_numbers_are_named():
    features, truth, groups = part(n=40)
    features[7, 2], features[9, 1] = np.nan, np.inf
    named = {"feature_names": list("abcdef"), "source_ids": [f"scan {number}" for number in range(40)]}
    with pytest.raises(DataError, match=r"image 'scan 7', feature 'c': .*found nan, and 1 more.* leave the image out"):
        choose_estimator(features, truth, groups, settings(), 0, **named)
    with pytest.raises(DataError, match="image in row 7, feature in column 2: expected a finite number, found nan"):
        choose_estimator(features, truth, groups, settings(), 0)


def test_features_to_classify_are_checked(saved):
    with pytest.raises(ShapeError, match=r"expected \(images, 6\) as in training, found \(3, 5\)"):
        saved.probability(np.zeros((3, 5)))
    with pytest.raises(DataError, match="image in row 1, feature in column 0: expected a finite number, found inf"):
        saved.probability(np.array([[0.0] * 6, [np.inf] + [0.0] * 5]))


def _other(**changes):
    features, truth, groups = part(n=40)
    return {"features": features, "truth": truth, "groups": groups, "settings": settings()} | changes


@pytest.mark.parametrize(
    ("given", "error", "answer"),
    [
        (_other(truth=np.zeros(40, int)), RecordsError, "expected images of at least 2 labels.*found 40 0.*another"),
        (
            _other(truth=np.zeros(40, int), labels=["benign", "malignant"]),
            RecordsError,
            "found 40 benign, 0 malignant. Draw another split",
        ),
        (_other(features=np.zeros((0, 6)), truth=np.zeros(0, int), groups=[]), RecordsError, "found none"),
        (_other(made=np.ones(40, bool), labels=["benign", "malignant"]), RecordsError, "0 benign, 0 malignant"),
        (_other(features=np.ones((40, 6))), DataError, "found all 6 constant among 40 training images"),
        (_other(truth=np.arange(40) - 1), DataError, "expected integers from 0 to 38.*found -1"),
        (_other(truth=np.arange(40) % 2 * 1.0), DataError, "of type float64"),
        (_other(groups=["a"]), ShapeError, r"groups one for each image, found \(40, 6\) and \(1,\)"),
        (_other(made=[True]), ShapeError, "made one for each image"),
        (_other(features=np.zeros(40)), ShapeError, r"expected \(images, features\)"),
        (_other(feature_names=["a"]), ShapeError, "feature_names: expected 6, found 1"),
        (
            _other(settings=settings(class_weights=(1.0, 2.0, 3.0)), labels=["benign", "malignant"]),
            RecipeError,
            "class_weights: expected 2 numbers, for benign, malignant; found 3",
        ),
        (
            _other(settings=settings(("logistic", "dense"), class_weights=(1.0, 500.0))),
            RecipeError,
            "'dense' meets weights by drawing images.*at most 20 times.*leave 'dense' out",
        ),
    ],
)
def test_what_cannot_be_is_answered(given, error, answer):
    with pytest.raises(error, match=answer):
        choose_estimator(**given, seed=0)


def test_fewer_patients_than_folds_give_fewer_folds_and_one_is_too_few():
    features, truth, groups = part(n=60, share=0.0)
    truth[:6] = 1  # three patients
    found = choose_estimator(features, truth, groups, settings(folds=5), seed=0)
    assert found.folds == 3 and np.isfinite(found.out_of_fold).all()
    truth[2:] = 0
    with pytest.raises(RecordsError, match=r"label 'malignant': .*of 1 patient with it.*Add patients"):
        choose_estimator(features, truth, groups, settings(), seed=0, labels=["benign", "malignant"])


def test_too_few_images_for_smote_are_counted_in_the_part_and_in_each_fold():
    features, truth, groups = part(n=60, share=0.0, images=1)
    labels = ["benign", "malignant"]
    truth[:5] = 1
    with pytest.raises(RecordsError, match=r"class 'malignant': .*at least 6 .*found 5. Add images, or set .*'off'"):
        choose_estimator(features, truth, groups, settings(folds=3, smote="features"), 0, labels=labels)
    truth[:7] = 1
    answer = r"'malignant': .*at least 6 .*found [45] where fold \d of 3 of the inner.*'off'"
    with pytest.raises(RecordsError, match=answer):
        choose_estimator(features, truth, groups, settings(folds=3, smote="features"), 0, labels=labels)


def test_smote_without_a_border_is_answered():
    features, truth, groups = part(n=60, share=0.3, distance=60.0)
    with pytest.raises(RecordsError, match=r"class '1': no image lies on the border.*Set classification.balance.smote"):
        choose_estimator(features, truth, groups, settings(smote="features"), 0)
