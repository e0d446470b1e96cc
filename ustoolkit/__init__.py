"""Annotated ultrasound images in, trustworthy segmentation out, exported so that a hospital can run it.

    files on disk   -> ustoolkit.data.readers     -> Sample
    Sample          -> ustoolkit.data.records     -> TFRecord shards with a manifest; splits.json says who is where
    records         -> ustoolkit.data.pipeline    -> batches of (image, mask)
    batches         -> ustoolkit.training         -> run folder (recipe, weights, history)
    run folder      -> ustoolkit.inference        -> predictions -> ustoolkit.evaluation -> tables
    run folder      -> ustoolkit.export           -> SavedModel for downstream apps
    run folder      -> ustoolkit.report           -> one page to read
Every stage is a command of the same name; see ``ustoolkit --help``.
"""

import os

__version__ = "0.1.0"

# tf-models-official and keras-vis stand on the Keras 2 line; TensorFlow reads this once, when it is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
