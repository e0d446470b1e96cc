"""Settings of classification: what is looked at, how a network is transferred, and how unequal classes are met."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ustoolkit.recipe.base import Count, Fraction, Positive, Settings

EstimatorName = Literal["logistic", "svm", "forest", "boosting", "dense"]


class RegionSettings(Settings):
    """What of an image is classified."""

    source: Annotated[
        Literal["truth", "predicted", "box", "image"],
        Field(
            description="truth: around the annotated lesion; predicted: around the one that a segmenter finds; box: "
            "around a box that the data set names; image: all of it"
        ),
    ] = "truth"
    segmenters: Annotated[
        tuple[str, ...],
        Field(
            description="run folders or exports that find lesions, for 'predicted'; of several, each image is given to "
            "those that did not learn from it"
        ),
    ] = ()
    box_attribute: Annotated[
        str, Field(description="attribute with left, top, width and height in pixels, for 'box'")
    ] = "lesion_box"
    margin: Annotated[
        float, Field(ge=0, le=5, description="around the lesion on each side, fraction of its longer side")
    ] = 0.25
    mask_channel: Annotated[bool, Field(description="give the network the mask as one more channel")] = False

    @model_validator(mode="after")
    def _predicted_needs_a_segmenter(self) -> "RegionSettings":
        if self.source == "predicted" and not self.segmenters:
            raise ValueError("source 'predicted' needs a segmenter; name run folders as segmenters")
        if self.mask_channel and self.source == "image":
            raise ValueError("mask_channel needs a mask, and source 'image' has none; choose source 'truth'")
        return self


class TransferSettings(Settings):
    """How a network that knows other images comes to know these."""

    form: Annotated[
        Literal["bottleneck", "fine_tuning"],
        Field(
            description="bottleneck: its features stay, and a classifier of scikit-learn is trained on them; "
            "fine_tuning: a head is trained on them, then the open layers by [training]"
        ),
    ] = "fine_tuning"
    estimators: Annotated[
        tuple[EstimatorName, ...],
        Field(min_length=1, description="classifiers to choose from by cross-validation in the training part"),
    ] = ("logistic", "svm", "forest", "dense")
    inner_folds: Annotated[Count, Field(ge=2, le=20, description="of that cross-validation, by patient")] = 5
    open_layers: Annotated[
        Literal["all", "none"] | Count | tuple[str, ...],
        Field(
            description="of the backbone: all, none, how many of the deepest layers with weights, or beginnings of "
            "their names such as ['block5']"
        ),
    ] = "all"
    head_epochs: Annotated[
        int, Field(ge=0, description="epochs of the head on frozen features before layers open; 0: none")
    ] = 100
    head_learning_rate: Annotated[Positive, Field(description="of Adam, for the head")] = 1e-3


class BalanceSettings(Settings):
    """What is done about classes of unequal size, in the training part alone."""

    class_weights: Annotated[
        Literal["equal", "balanced"] | tuple[Positive, ...],
        Field(description="of images in the loss; balanced: each class counts as much; else a number for each label"),
    ] = "equal"
    sampling: Annotated[
        Literal["natural", "balanced"], Field(description="balanced: each epoch draws as many of each class")
    ] = "natural"
    expand_to: Annotated[
        int, Field(ge=0, description="images after augmented copies are added, as many of each class; 0: no copies")
    ] = 0
    smote: Annotated[
        Literal["off", "features", "pixels"],
        Field(description="Borderline-SMOTE2 on features (bottleneck, lesion_features) or on pixels of the regions"),
    ] = "off"


class DecisionSettings(Settings):
    """From a probability to a decision, found on the validation part."""

    operating_point: Annotated[
        Literal["youden", "sensitivity", "half"],
        Field(
            description="youden: where sensitivity and specificity add up to most; sensitivity: the highest threshold "
            "with that sensitivity; half: 0.5"
        ),
    ] = "youden"
    sensitivity: Annotated[Fraction, Field(gt=0, description="wanted at least, for 'sensitivity'")] = 0.95
    calibration: Annotated[
        Literal["temperature", "off"], Field(description="temperature: logits divided by one number")
    ] = "temperature"


class ClassificationSettings(Settings):
    """Classification of images or of the lesions in them; not used by networks that segment."""

    positive: Annotated[
        str, Field(min_length=1, description="label whose probability is given; all labels are those of the records")
    ] = "malignant"
    region: RegionSettings = RegionSettings()
    transfer: TransferSettings = TransferSettings()
    balance: BalanceSettings = BalanceSettings()
    decision: DecisionSettings = DecisionSettings()
