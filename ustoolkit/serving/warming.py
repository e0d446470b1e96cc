"""The first call of each signature takes seconds: made before anybody waits for it."""

import numpy as np

from ustoolkit.data.image_files import encode_png
from ustoolkit.serving.examples import examples
from ustoolkit.serving.served_model import ServedModel

_SIZE = (64, 64)


def warm(model: ServedModel) -> None:
    """Draws the examples, and calls each signature for pixels or files once.

    Args:
        model: loaded.
    """
    examples()
    image = np.random.default_rng(0).integers(0, 256, (*_SIZE, 1), np.uint8)
    values = {
        "images": image[np.newaxis],
        "image_bytes": np.array([encode_png(image)], object),
        "spacing_mm": np.ones((1, 2), np.float32),
    }
    for signature, ports in model.inputs.items():
        if set(ports) <= set(values):
            model.call(signature, {name: values[name] for name in ports})
