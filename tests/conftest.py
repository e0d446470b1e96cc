"""Shared, small and real: phantoms, their records, and a network trained on them for moments."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Times are measured in benchmarks; a busy machine must not fail a property.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TINY = (
    "data.image_size=[32,32]",
    "data.channels=1",
    "model.widths=[4,8,8]",
    "training.epochs=3",
    "training.batch_size=4",
    "training.minutes=0",
    "training.learning_rate=0.01",
)


# Files whose tests share what takes long to make; each group stays in one process where tests run in several. They
# stand here by name, since pytest 9.2 does not let pytest-xdist 3.8 see the mark `xdist_group`.
_SERVING = ("batching", "gate", "page", "rest", "segment", "server", "uploads")
TOGETHER = {
    "automatic": ("test_automatic_command.py",),
    "zoo": ("models/test_zoo.py",),
    "export": (
        "export/test_exports.py",
        "export/test_keras_file.py",
        "export/test_litert.py",
        "export/test_onnx_file.py",
        "export/test_saved_model.py",
    ),
    "serving": tuple(f"serving/test_{name}.py" for name in _SERVING),
    "classifiers": (
        "export/test_diagnosis_model.py",
        "inference/test_classifier.py",
        "inference/test_classify.py",
        "inference/test_decide.py",
        "inference/test_diagnose.py",
        "inference/test_fusion.py",
        "test_classification_commands.py",
        "test_diagnosis_commands.py",
        "test_explain_command.py",
        "training/test_classical.py",
        "training/test_classification.py",
    ),
    "networks": ("models/test_contract.py", "models/test_deeplab.py", "models/test_pretrained.py"),
    "classifier networks": ("models/test_classifier_contract.py",),
    "pretrained classifiers": ("models/test_pretrained_classifiers.py",),
    "tuned": ("inference/test_tune.py",),
    "pages": ("report/test_crf.py", "report/test_html.py"),
    "result pages": ("report/test_pair_page.py", "report/test_report_command.py", "report/test_result_pages.py"),
    "classifier pages": ("report/test_classifier_page.py", "report/test_study_page.py"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps each group of `TOGETHER` in one process under `--dist loadgroup`; other ways to share tests stay."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    groups = {f"tests/{path}": group for group, paths in TOGETHER.items() for path in paths}

    class GroupsOfFiles(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            return groups.get(nodeid.partition("::")[0]) or super()._split_scope(nodeid)

    return GroupsOfFiles(config, log)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    """Thirty phantoms of 64 × 64 as `ustoolkit phantom` writes them."""
    from ustoolkit.data.phantom import write_phantoms

    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "set", 30, seed=3, size=(64, 64))


@pytest.fixture(scope="session")
def records(tmp_path_factory, phantom_folder):
    """The phantoms as records, with a split."""
    from ustoolkit.data.readers import open_data_set
    from ustoolkit.data.records import write_records
    from ustoolkit.data.split import split_patients, write_splits
    from ustoolkit.recipe import DataSetSettings

    settings = DataSetSettings()
    out = tmp_path_factory.mktemp("records") / "set"
    made = write_records(open_data_set(phantom_folder, settings), out, settings, workers=1)
    write_splits(out / "splits.json", split_patients(made.index, test=0.25, validation=0.25), {})
    return made


@pytest.fixture
def tiny_recipe():
    """The demo recipe, shrunk until an epoch takes moments."""
    from ustoolkit.recipe import load_recipe

    return load_recipe("demo", TINY)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, records):
    """A run of three tiny epochs; tests must not change it."""
    from ustoolkit.recipe import load_recipe
    from ustoolkit.training.start import start_run
    from ustoolkit.training.trainer import train

    run = start_run(load_recipe("demo", TINY), records, tmp_path_factory.mktemp("runs") / "run")
    train(run, records)
    return run


@pytest.fixture(scope="session")
def labelled_records(tmp_path_factory):
    """Phantoms as records, with enough of both labels in each part to classify; see `tests.classifiers`."""
    from tests.classifiers import phantom_records

    return phantom_records(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets; tests that need it are skipped where it is absent."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("USTOOLKIT_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; set USTOOLKIT_TEST_DATA to test with some")
    return folder
