"""What runs an exported file without TensorFlow's own executor: LiteRT and ONNX Runtime, as prediction calls them."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from side_protocol import serve

from ustoolkit.inference.segmenter import load_segmenter


class Runtime:
    """Segments images with the files that our side has exported."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hello(self) -> dict[str, Any]:
        """Versions."""
        return {name: version(name) for name in ("ai-edge-litert", "onnxruntime")}

    def describe(self, subject: str) -> dict[str, Any]:
        """How far each file's probabilities are from those of the network."""
        stored = np.load(self._folder / f"{subject}.npz")
        images = stored["images"][:2]
        differences = {}
        for path in sorted((self._folder / subject / "1").glob("model*")):
            found = load_segmenter(path).probabilities(images)
            differences[path.name] = max(
                float(np.abs(one - expected).max()) for one, expected in zip(found, stored["probability"], strict=False)
            )
        return differences

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`: 'file SUBJECT NAME IMAGES SIDE'."""
        _, subject, name, images, side = task.split()
        segmenter = load_segmenter(self._folder / subject / "1" / name)
        array = np.load(self._folder / f"{subject}.npz")["images"][: int(images), : int(side), : int(side)]
        return lambda: list(segmenter.probabilities(array))


if __name__ == "__main__":
    serve(Runtime(Path(sys.argv[1])))
