"""Experiments that compare ways of training, and that anyone can repeat with one command.

`comparison` says what a study is, and one module a study holds its arms. `plan` turns it into runs, `stages` sees how
far each is, `jobs` trains and scores the others by the ordinary command line, `scores` and `tables` set the results
side by side, and `runner` does all of it in order.
"""

from ustoolkit.studies.comparison import Study
from ustoolkit.studies.deeplab import DEEPLAB
from ustoolkit.studies.unet import UNET

STUDIES: dict[str, Study] = {"unet": UNET, "deeplab": DEEPLAB}
