"""Experiments that compare ways of training, and that anyone can repeat with one command.

`comparison` says what a study is, and one module a study holds its arms: `lymph_node`, `deeplab`, `light_unet` and
`fine_tuning` those of the four papers, `fast` what the fast recipes are made of, `audit_protocol` what splits that
ignore patients do, `cross_validation` any recipe. `asked` is what a user wants of it; `plan` turns both into runs
(`ladder`: which depend on others), `image_sets` and `protocols` into images and how they are divided; `stages` and
`fusions` see how far each run is, `jobs` trains and scores the others by the ordinary command line, and `runner` does
all of it in order. `scores`, `tables` and `ladder_table` set the results of segmentation side by side, the modules
called `classification` those of classification; `results` writes them with `table_files` and `figures`.

Names load when they are first used, since some bring TensorFlow; `__init__.pyi` says which there are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
