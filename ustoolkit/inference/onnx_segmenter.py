"""Segmentation by an ONNX file that `ustoolkit export` wrote, in ONNX Runtime."""

import contextlib
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from ustoolkit.data.resize import to_channels
from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.recipe import validate
from ustoolkit.recipe.settings import InferenceSettings

METADATA, CARD = "metadata.json", "model_card.md"
_REMEDY = "Export the run again with 'ustoolkit export --format onnx'."
_DOMAINS = ("", "ai.onnx")  # of operations that the format defines itself


class OnnxSegmenter:
    """Segments with an ONNX file on the CPU; see `ustoolkit.inference.segmenter.Segmenter`."""

    def __init__(self, path: Path) -> None:
        """Loads the model.

        Args:
            path: of a file with its description inside.
        Raises:
            RunError: the file is damaged, not one of ours, reads other files, or a package is missing.
        """
        onnx, runtime = onnx_package("onnx"), onnx_package("onnxruntime")
        self._path = Path(path)
        try:
            content = self._path.read_bytes()
            metadata = self._checked(onnx.ModelProto.FromString(content), onnx)
            self.classes = [str(name) for name in metadata["classes"]]
            self.inference = validate(InferenceSettings, metadata["inference"], str(path), "inference")
            with contextlib.redirect_stdout(sys.stderr):  # where the runtime says what it could not read
                # What was looked through as ONNX is not to be taken for the runtime's own format.
                options = runtime.SessionOptions()
                options.add_session_config_entry("session.load_model_format", "ONNX")
                self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            (self._input,) = self._session.get_inputs()
            self._channels = int(self._input.shape[3])
            shapes = {output.name: output.shape for output in self._session.get_outputs()}
            outputs = 1 if len(self.classes) == 2 else len(self.classes)
            if self._channels not in (1, 3) or shapes["probability"][3] != outputs:
                raise ValueError(f"from {self._input.shape} to {shapes}")
        except RunError:
            raise
        except UstoolkitError as problem:
            raise RunError(f"{problem}\n{_REMEDY}") from None
        except Exception as problem:  # a damaged file shows in many ways: DecodeError, KeyError, the runtime's own, …
            raise self._damage(problem) from None

    def probabilities(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Segmenter.probabilities`."""
        for image in images:
            pixels = to_channels(tf.constant(image[np.newaxis]), self._channels).numpy()
            try:
                (probability,) = self._session.run(["probability"], {self._input.name: pixels})
            except Exception as problem:  # the runtime's own kinds; what sizes clash is seen with an image only
                raise self._damage(problem) from None
            yield probability[0]

    def splits_of(self, records_digest: str) -> dict[str, list[str]] | None:
        """None: a file does not know who was in which part."""
        return None

    def _checked(self, model: Any, onnx: ModuleType) -> dict[str, Any]:
        """The metadata of a model that holds all its numbers, and operations of the format only."""
        graphs, stored = [model.graph], []
        while graphs:
            graph = graphs.pop()
            stored += [*graph.initializer, *_parts(graph.sparse_initializer)]
            for node in graph.node:
                if node.domain not in _DOMAINS:
                    raise self._refusal(f"the operation {node.op_type} of {node.domain[:80]}")
                for attribute in node.attribute:
                    # A field that is not set reads as an empty one, which holds nothing to refuse.
                    graphs += [*attribute.graphs, attribute.g]
                    stored += [*attribute.tensors, attribute.t]
                    stored += _parts([*attribute.sparse_tensors, attribute.sparse_tensor])
        # A file to be trained further would bring graphs of its own; these are not looked through.
        if model.functions or model.training_info or any(_is_elsewhere(one, onnx) for one in stored):
            raise self._refusal("numbers in another file, or functions")
        properties = {entry.key: entry.value for entry in model.metadata_props}
        return json.loads(properties[METADATA])

    def _damage(self, problem: Exception) -> RunError:
        found = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        return RunError(
            f"{self._path}: expected an ONNX file of ours, found it damaged or another ({found}). {_REMEDY}"
        )

    def _refusal(self, found: str) -> RunError:
        return RunError(f"{self._path}: expected a model that computes only, found {found}. {_REMEDY}")


def _parts(sparse: Iterable[Any]) -> list[Any]:
    """The tensors that sparse ones consist of."""
    return [part for one in sparse for part in (one.values, one.indices)]


def _is_elsewhere(tensor: Any, onnx: ModuleType) -> bool:
    """Whether a tensor's numbers are in another file, or it says which file that would be."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def onnx_package(name: str) -> ModuleType:
    """One of the packages that not every installation has.

    Args:
        name: onnx, tf2onnx or onnxruntime.
    Raises:
        RunError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise RunError(
            f"onnx: expected the package {name}, found it missing or broken ({problem}). "
            "Install it: pip install 'ustoolkit[onnx]'."
        ) from None
