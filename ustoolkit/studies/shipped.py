"""The studies that come with the package, by name."""

from ustoolkit.studies.comparison import Study
from ustoolkit.studies.deeplab import DEEPLAB
from ustoolkit.studies.fast import FAST
from ustoolkit.studies.fine_tuning import FINE_TUNING
from ustoolkit.studies.light_unet import LIGHT_UNET
from ustoolkit.studies.lymph_node import LYMPH_NODE

STUDIES: dict[str, Study] = {study.name: study for study in (LYMPH_NODE, DEEPLAB, LIGHT_UNET, FINE_TUNING, FAST)}
"""Studies by the name that the command line gives them."""
