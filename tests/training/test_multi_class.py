"""Several classes and padded images, from files on disk to masks of new images."""

import numpy as np
import pytest
from PIL import Image

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.pipeline import Batches
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.records import write_records
from ustoolkit.data.split import split_patients, write_splits
from ustoolkit.files import read_json
from ustoolkit.inference.evaluate import evaluate_run
from ustoolkit.inference.predict import predict_paths
from ustoolkit.inference.segmenter import load_segmenter
from ustoolkit.models.load import load_model
from ustoolkit.recipe import DataSetSettings, load_recipe
from ustoolkit.recipe.data_set import IGNORE
from ustoolkit.training.start import start_run
from ustoolkit.training.trainer import train

CLASSES = ("background", "disc", "box", "bar")
SIZES = [(48, 80), (80, 48), (60, 90)]
COMMON = (
    "data.image_size=[64,64]",
    "data.channels=1",
    "data.keep_aspect=true",
    'loss={ terms = { dice = 1.0, cross_entropy = 0.5, boundary = 0.1 }, class_weights = "balanced" }',
    "training.epochs=2",
    "training.minutes=0",
    "training.batch_size=4",
    "training.learning_rate=0.003",
)
NETWORKS = {
    "unet": ("model.widths=[4,8,8]", "model.scales=2"),
    "fcn_8s": ("model.name=fcn_8s", "model.widths=[4,4,8,8,8]", "model.decoder_widths=[8,8,8,4,4]"),
}


def shapes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc, a box and a bar, each of its own grey; image and mask."""
    height, width = SIZES[number % len(SIZES)]
    rows, columns = np.indices((height, width))
    mask = np.zeros((height, width), np.uint8)
    mask[(rows - 14) ** 2 + (columns - 14 - number % 4) ** 2 < 100] = 1
    mask[height - 20 : height - 6, 6:24] = 2
    mask[6 : height - 6, width - 12 : width - 4] = 3
    noise = np.random.default_rng(number).integers(-15, 16, mask.shape)
    return (20 + 70 * mask.astype(int) + noise).clip(0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with their masks beside them, of class indices."""
    root = tmp_path_factory.mktemp("shapes")
    for number in range(16):
        image, mask = shapes(number)
        (root / f"{number:02}.png").write_bytes(encode_png(image))
        (root / f"{number:02}_mask.png").write_bytes(encode_png(mask))
    return root


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
    settings = DataSetSettings(classes=CLASSES)
    made = write_records(
        open_data_set(folder, settings), tmp_path_factory.mktemp("records") / "set", settings, workers=1
    )
    write_splits(made.folder / "splits.json", split_patients(made.index, test=0.25, validation=0.25), {})
    return made


@pytest.mark.parametrize("network", ["unet", pytest.param("fcn_8s", marks=pytest.mark.slow)])
def test_trained_evaluated_and_predicted(network, folder, records, tmp_path):
    run = start_run(load_recipe("demo", [*NETWORKS[network], *COMMON]), records, tmp_path / "run")
    images, masks = next(iter(Batches(records, run.splits["train"], run.recipe, training=True).epoch(0)))
    assert set(np.unique(masks)) == {0, 1, 2, 3, IGNORE}  # else there is no padding to ignore

    train(run, records)
    history = run.read_history()
    assert np.isfinite([[row["loss"], row["validation_loss"]] for row in history]).all()
    assert history[-1]["loss"] < history[0]["loss"]
    logits = load_model(run)(images, training=False)
    assert logits.dtype == "float32" and logits.shape == (4, 64, 64, 4)

    evaluate_run(run, records, "test")
    assert (run.evaluation("test") / "metrics.json").is_file()
    evaluated = {path.stem: np.array(Image.open(path)) for path in run.evaluation("test").glob("masks/*.png")}
    assert set(evaluated) == set(run.splits["test"])

    segmenter = load_segmenter(run.folder)
    predict_paths(segmenter, [folder], tmp_path / "predictions")
    assert read_json(tmp_path / "predictions" / "predictions.json", Exception, "")["refused"] == []
    predicted = {path.name[:2]: np.array(Image.open(path)) for path in (tmp_path / "predictions").glob("*_mask.png")}
    assert len(predicted) == 16
    for number in range(16):
        image, truth = shapes(number)
        found = predicted[f"{number:02}"]
        assert found.dtype == np.uint8 and found.shape == truth.shape and found.max() <= 3
        np.testing.assert_array_equal(evaluated.get(f"{number:02}", found), found)
        probability = next(segmenter.probabilities([image[..., np.newaxis]]))
        assert probability.shape == (*truth.shape, 4)
        np.testing.assert_allclose(probability.sum(-1), 1, atol=1e-4)
