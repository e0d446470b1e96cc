"""Segmentation by a LiteRT file that `ustoolkit export` wrote. No TensorFlow."""

import hashlib
import io
import json
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.processes import available_cores
from ustoolkit.recipe import validate
from ustoolkit.recipe.settings import InferenceSettings

METADATA, CARD = "metadata.json", "model_card.md"
_CHECKSUM = "model_sha256"
_LARGEST_METADATA = 2**22  # bytes
_KEPT_SIZES = 2  # interpreters, each with its own copy of the weights
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_REMEDY = "Export the run again with 'ustoolkit export'."


class LiteRtSegmenter:
    """Segments with a LiteRT file on the CPU; see `ustoolkit.inference.segmenter.Segmenter`.

    Attributes:
        metadata: the description within the file.
    """

    def __init__(self, path: Path | str, threads: int = 0) -> None:
        """Loads the model.

        The runtime would compute with damaged weights, and can end the process over what it was not made for, so a
        model that is not the one that was written is not given to it. A file that was made to do harm could still: use
        those only whose maker you know.

        Args:
            path: of a file with its description inside.
            threads: for each image; 0 for as many as there are cores.
        Raises:
            RunError: the file is missing, damaged, or not one of ours.
        """
        self._path = Path(path)
        self._threads = threads or available_cores()
        self._interpreters: OrderedDict[tuple[int, ...], Interpreter] = OrderedDict()
        self._lock = threading.Lock()
        self._model, self.metadata = _checked(self._path)
        try:
            self.classes = [str(name) for name in self.metadata["classes"]]
            self.inference = validate(InferenceSettings, self.metadata["inference"], str(path), "inference")
            signature = Interpreter(model_content=self._model).get_signature_runner("serving_default")
            (_, _, _, self._channels) = signature.get_input_details()["images"]["shape_signature"].tolist()
            outputs = signature.get_output_details()["probability"]["shape_signature"].tolist()[3]
            if self._channels not in (1, 3) or outputs != (1 if len(self.classes) == 2 else len(self.classes)):
                raise ValueError(f"{self._channels} channels to {outputs} of {len(self.classes)} classes")
        except UstoolkitError as problem:
            raise RunError(f"{problem}\n{_REMEDY}") from None
        except (KeyError, TypeError, ValueError, RuntimeError) as problem:
            raise _damaged(self._path, problem) from None

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`."""
        for image in images:
            yield self._segmented(in_channels(image, self._channels)[np.newaxis])

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: an export does not know who was in which part."""
        return None

    def _segmented(self, images: np.ndarray) -> np.ndarray:
        try:
            with self._lock:
                interpreter = self._of_size(images.shape)
                return _run(interpreter, images)[0]
        except (RuntimeError, ValueError, MemoryError) as problem:
            raise _damaged(self._path, problem) from None

    def _of_size(self, shape: tuple[int, ...]) -> Interpreter:
        """The interpreter for images of a shape; planning its memory anew for each image would take longer than it."""
        if shape in self._interpreters:
            self._interpreters.move_to_end(shape)
            return self._interpreters[shape]
        if len(self._interpreters) < _KEPT_SIZES:
            interpreter = Interpreter(model_content=self._model, num_threads=self._threads)
        else:
            _, interpreter = self._interpreters.popitem(last=False)
        self._interpreters[shape] = _sized(interpreter, shape)
        return interpreter


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The description within a LiteRT file; nothing but JSON is read.

    Raises:
        RunError: the file is missing, damaged, or not one of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _metadata(archive)
    except Exception as problem:  # a damaged archive shows in many ways: BadZipFile, zlib.error, NotImplementedError, …
        raise _damaged(Path(path), problem) from None


def described(model: bytes, metadata: dict[str, Any]) -> dict[str, Any]:
    """The description of a model, with the checksum by which its damage is seen."""
    return {**metadata, _CHECKSUM: hashlib.sha256(model).hexdigest()}


def in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey to RGB or back, to the value as `ustoolkit.data.resize.to_channels`.

    Args:
        image: uint8 (height, width, 1 or 3).
        channels: 1 or 3.
    Returns:
        uint8 (height, width, channels).
    """
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    grey = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]
    return np.round(grey).astype(np.uint8)[..., np.newaxis]


def try_model(model: bytes, channels: int) -> None:
    """Segments a small grey image with a model that has no description yet.

    Raises:
        RuntimeError, ValueError: the runtime refuses the model.
    """
    images = np.full((1, 48, 40, channels), 128, np.uint8)
    _run(_sized(Interpreter(model_content=model, num_threads=2), images.shape), images)


def _sized(interpreter: Interpreter, shape: tuple[int, ...]) -> Interpreter:
    (images,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(images["index"], shape)
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter: Interpreter, images: np.ndarray) -> np.ndarray:
    (taken,) = interpreter.get_input_details()
    (probability,) = (one for one in interpreter.get_output_details() if one["dtype"] == np.float32)
    interpreter.set_tensor(taken["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(probability["index"])


def _checked(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The model and its description."""
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            metadata = _metadata(archive)
            model = content[: min(entry.header_offset for entry in archive.infolist())]
        if hashlib.sha256(model).hexdigest() != metadata[_CHECKSUM]:
            raise ValueError("its checksum has changed")
    except Exception as problem:  # see `read_metadata`
        raise _damaged(path, problem) from None
    return model, metadata


def _metadata(archive: zipfile.ZipFile) -> dict[str, Any]:
    with archive.open(METADATA) as file:
        text = file.read(_LARGEST_METADATA + 1)  # a small archive may unpack to a large one
    if len(text) > _LARGEST_METADATA:
        raise ValueError(f"{METADATA} is larger than {_LARGEST_METADATA:,} bytes")
    metadata = json.loads(text)
    if not isinstance(metadata, dict):
        raise ValueError(f"{METADATA} holds no table")
    return metadata


def _damaged(path: Path, problem: Exception) -> RunError:
    if isinstance(problem, FileNotFoundError):
        return RunError(f"{path}: no such file. {_REMEDY}")
    found = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
    return RunError(f"{path}: expected a LiteRT file of ours, found it damaged or another ({found}). {_REMEDY}")
