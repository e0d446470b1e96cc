"""The outputs that training supervises, of a model that at inference gives one."""

import tf_keras as keras

FULL, HALF = "logits_full", "logits_half"


def supervised(model: keras.Model) -> keras.Model:
    """The model with one output a head.

    Args:
        model: any of `MODELS`; with two scales its own output is the fusion of both heads.
    Returns:
        a model that shares all weights and gives float32 logits (batch, height, width, channels); with two scales a
        list of these and (batch, height / 2, width / 2, channels).
    """
    names = {layer.name for layer in model.layers}
    if HALF not in names:
        return keras.Model(model.inputs, model.output, name=model.name)
    return keras.Model(model.inputs, [model.get_layer(name).output for name in (FULL, HALF)], name=model.name)
