"""Segmentation by a `.keras` file: one that `ustoolkit export` wrote, or any network of the usual layers."""

import json
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tf_keras as keras

from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.inference.keras_config import LARGEST_SIDE, REMEDY, plan_network
from ustoolkit.inference.keras_network import build_network, limited_weights
from ustoolkit.inference.run_segmenter import GraphSegmenter
from ustoolkit.models import build_model
from ustoolkit.recipe import Recipe, validate
from ustoolkit.recipe.settings import DataSettings, InferenceSettings

RECIPE, METADATA, CARD = "ustoolkit/recipe.toml", "ustoolkit/metadata.json", "ustoolkit/model_card.md"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LONGEST_TEXT = 2**24  # bytes of JSON or TOML
_MOST_FILES = 10_000
_LARGEST_RATIO = 4  # of weights to the whole file; numbers can hardly be compressed
_CHUNK = 2**20


class KerasSegmenter:
    """Segments with a Keras file; see `ustoolkit.inference.segmenter.Segmenter`.

    A file of ours holds its recipe: the network is built from that, and takes the file's weights. Of any other the
    layers are built one by one, if all of them are known here. It has to take raw pixel values, 0 to 255, and end in
    one output for lesions or one for each class; where that is a sigmoid or a softmax, it is taken off. Its classes
    are 'background' and 'lesion' for one output or two, else 'background', 'class1' and so on. Masks are made as by
    default.
    """

    def __init__(self, path: Path) -> None:
        """Loads the network.

        Args:
            path: of tf_keras or Keras 3.
        Raises:
            RunError: the file is damaged, would do more than arithmetic, or maps no images of a fixed size to masks.
        """
        self._segmenter = GraphSegmenter(*_load(Path(path)))
        self.classes, self.inference = self._segmenter.classes, self._segmenter.inference

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`; several images share one pass of the network."""
        return self._segmenter.probabilities(images)

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: a file does not know who was in which part."""
        return None


def _load(path: Path) -> tuple[SegmentationGraph, list[str]]:
    """The graph and the names of its classes."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            if len(archive.infolist()) > _MOST_FILES:
                raise RunError(f"{path}: expected a Keras file, found more than {_MOST_FILES} entries in it. {REMEDY}")
            ours = RECIPE in archive.namelist()
            model_of = _ours if ours else _foreign
            # Extracted, since HDF5 within a zip file is read again from its start for each array.
            weights = _extract(archive, Path(folder) / _WEIGHTS, path)
            model, data, classes, inference = model_of(archive, weights, path)
    except RunError:
        raise
    except UstoolkitError as problem:
        raise RunError(f"{problem}\n{REMEDY}") from None
    except Exception as problem:  # a damaged file shows in many ways: BadZipFile, OSError, KeyError, zlib.error, …
        found = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        raise RunError(
            f"{path}: expected a Keras file with a network that segments, found it damaged or none ({found}). {REMEDY}"
        ) from None
    return SegmentationGraph([Member(model, data)], inference), classes


_Loaded = tuple[keras.Model, DataSettings, list[str], InferenceSettings]


def _ours(archive: zipfile.ZipFile, weights: Path, path: Path) -> _Loaded:
    """The network by its recipe; what else the file says of its layers is not read."""
    recipe = validate(Recipe, tomllib.loads(_text(archive, RECIPE, path)), f"{path}, {RECIPE}")
    metadata = json.loads(_text(archive, METADATA, path))
    classes = metadata["classes"]
    named = isinstance(classes, list) and 2 <= len(classes) <= 255 and all(isinstance(one, str) for one in classes)
    if not named or recipe.classifies:
        raise RunError(
            f"{path}: expected a network that segments two classes or more, found {recipe.model.name} with the classes "
            f"{str(classes)[:80]}. {REMEDY}"
        )
    if max(recipe.data.image_size) > LARGEST_SIDE:
        raise RunError(f"{path}: expected sides of at most {LARGEST_SIDE}, found {recipe.data.image_size}. {REMEDY}")
    inference = validate(InferenceSettings, metadata["inference"], f"{path}, {METADATA}", "inference")
    with limited_weights(weights, str(path)):
        model = build_model(recipe, len(classes))
        model.load_weights(weights)
    return model, recipe.data, classes, inference


def _foreign(archive: zipfile.ZipFile, weights: Path, path: Path) -> _Loaded:
    plan = plan_network(json.loads(_text(archive, _CONFIG, path)), str(path))
    model = build_network(plan, weights, str(path))
    _, height, width, channels = model.input_shape
    outputs = model.output_shape[-1]
    names = ["lesion"] if outputs == 1 else [f"class{number}" for number in range(1, outputs)]
    data = DataSettings(image_size=(height, width), channels=channels)
    return model, data, ["background", *names], InferenceSettings()


def _text(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    """A file of text in an archive, of a bounded size whatever the archive says of it."""
    return b"".join(_chunks(archive, name, path, _LONGEST_TEXT)).decode()


def _extract(archive: zipfile.ZipFile, to: Path, path: Path) -> Path:
    most = _LARGEST_RATIO * path.stat().st_size
    with to.open("wb") as file:
        for chunk in _chunks(archive, _WEIGHTS, path, most):
            file.write(chunk)
    return to


def _chunks(archive: zipfile.ZipFile, name: str, path: Path, most: int) -> Iterator[bytes]:
    """The content of one entry, at most `most` bytes, which its directory is not trusted to tell."""
    too_large = RunError(f"{path}: expected at most {most} bytes in {name}, found more. {REMEDY}")
    if archive.getinfo(name).file_size > most:
        raise too_large
    with archive.open(name) as entry:
        while chunk := entry.read(_CHUNK):
            most -= len(chunk)
            if most < 0:
                raise too_large
            yield chunk
