"""The model alone, for benchmarks/serving.py: an export's signatures called in this process."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import side_protocol
import tensorflow as tf

from ustoolkit.data.image_files import encode_png
from ustoolkit.inference.saved_model import load_export


class _Raw:
    """Tasks are called after a signature and how many images a call has, as 'compact 8'."""

    def __init__(self, folder: Path) -> None:
        self._model, _ = load_export(folder)
        self._image = np.load(folder / "image.npy")

    def hello(self) -> dict[str, Any]:
        """Versions."""
        return {"tensorflow": tf.__version__}

    def describe(self, subject: str) -> dict[str, Any]:
        """Nothing is compared."""
        return {}

    def prepare(self, task: str) -> Callable[[], object]:
        """A call, from tensors to arrays."""
        signature, rows = task.split()
        call = self._model.signatures[signature]
        if signature == "compact":
            files = tf.constant([encode_png(self._image)] * int(rows))
            inputs = {"image_bytes": files, "spacing_mm": tf.fill([int(rows), 2], 0.1)}
        else:
            inputs = {"images": tf.constant(np.stack([self._image] * int(rows)))}
        return lambda: [output.numpy() for output in call(**inputs).values()]


if __name__ == "__main__":
    side_protocol.serve(_Raw(Path(sys.argv[1])))
