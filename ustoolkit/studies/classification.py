"""Benign or malignant: three networks, two transfers, two sizes, SMOTE, lesion features, and all of them fused.

The experiment of "Ultrasound-assisted diagnosis of benign and malignant cervical lymph nodes in patients with lung
cancer based on deep learning" (Xia et al., FBB 2020), with the fusion that it names as future work, on a split by
patient made before any copy is. Backbones learn from natural images with masks first, in place of ImageNet's weights.
"""

from functools import partial

from ustoolkit.studies.classification_arms import FUSIONS, LESION_FEATURES, NETWORK_ARMS, PRETRAINING
from ustoolkit.studies.classification_tables import tabulate_classification
from ustoolkit.studies.comparison import Study

CLASSIFICATION = Study(
    name="classification",
    description="benign or malignant: networks, transfers, sizes, SMOTE, lesion features, fusions",
    arms=(LESION_FEATURES, *(each.arm for each in NETWORK_ARMS)),
    comparisons=(),
    pretraining=PRETRAINING,
    fusions=FUSIONS,
    tabulate=partial(tabulate_classification, networks=NETWORK_ARMS, fusions=FUSIONS),
)
