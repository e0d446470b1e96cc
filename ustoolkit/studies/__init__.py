"""Experiments that compare ways of training, and that anyone can repeat with one command.

`comparison` says what a study is, and one module a study holds its arms. `plan` turns it into runs, `stages` and
`fusions` see how far each is, `jobs` trains and scores the others by the ordinary command line, `scores` and `tables`
set the results of segmentation side by side, `classification_scores` and the modules beside it those of
classification, and `runner` does all of it in order. `protocols` divides images as they should not be.
"""

from ustoolkit.studies.classification import CLASSIFICATION
from ustoolkit.studies.comparison import Study
from ustoolkit.studies.deeplab import DEEPLAB
from ustoolkit.studies.leakage import LEAKAGE
from ustoolkit.studies.unet import UNET

STUDIES: dict[str, Study] = {"unet": UNET, "deeplab": DEEPLAB, "classification": CLASSIFICATION, "leakage": LEAKAGE}
