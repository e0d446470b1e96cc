"""Batch normalisation over several devices."""

import tf_keras as keras


def synchronize(model: keras.Model) -> None:
    """Lets batch normalisation take its statistics over the images of all devices together, as one device would.

    The moving variance is then that of all images without Bessel's correction, (n - 1) / n of what one device keeps.
    Weights, and what a file says of the model, stay as they are. With one device nothing is synchronised.

    Args:
        model: under its strategy, before it is called in a step.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False  # the fused operation knows one device only
