"""What a data set's description says: where it lies, how to read it, who is a patient, which classes there are."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ustoolkit.choices import DataSetFormat
from ustoolkit.recipe.augmentation import AugmentationSettings
from ustoolkit.recipe.base import Settings

# In place of a class index: the pixel counts neither in a loss nor in a score. Records hold none.
IGNORE = 255
Channel = Annotated[int, Field(ge=0, le=255)]
Format = Literal["auto", DataSetFormat]


class TableSettings(Settings):
    """Which column of a CSV table means what; an empty name means 'find it by its usual spellings'."""

    file: Annotated[str, Field(description="CSV file, relative to the data set's folder")] = ""
    source_id: Annotated[str, Field(description="column that names the image, its stem or file name")] = ""
    patient: Annotated[str, Field(description="column that names the patient")] = ""
    label: Annotated[str, Field(description="column of the image's label, such as benign")] = ""
    spacing_row_mm: Annotated[str, Field(description="column of the distance between rows of pixels, mm")] = ""
    spacing_column_mm: Annotated[str, Field(description="column of the distance between columns of pixels, mm")] = ""
    image: Annotated[str, Field(description="column of image paths, where names do not tell")] = ""
    mask: Annotated[str, Field(description="column of mask paths, where names do not tell")] = ""
    box: Annotated[str, Field(description="column of the lesion's box: x, y, width, height in pixels")] = ""


class ShapeSettings(Settings):
    """What a drawn shape's label means: the class of its pixels, the label of the whole image, or both."""

    pixels: Annotated[str, Field(description="a name in `classes`; '' where the shape is not part of the mask")] = ""
    image: Annotated[str, Field(description="an image label such as 'benign'; '' for none")] = ""


class DicomSettings(Settings):
    """How identities are hidden."""

    salt_file: Annotated[
        str,
        Field(description="text file with a secret that patients are hashed with; '': a secret of the set's own UIDs"),
    ] = ""


class SplitSettings(Settings):
    """How a data set is divided into train, validation and test, whole patients at a time."""

    test: Annotated[float, Field(ge=0, lt=1, description="share of the images to test on")] = 0.2
    validation: Annotated[float, Field(ge=0, lt=1, description="share of the other images to validate on")] = 0.15
    seed: Annotated[int, Field(ge=0, lt=2**31, description="another seed, another draw")] = 0
    fold_attribute: Annotated[str, Field(description="attribute that holds the data set's own folds; '' for none")] = ""
    test_folds: Annotated[tuple[str, ...], Field(description="folds that make up the test part")] = ()

    @model_validator(mode="after")
    def _folds_have_an_attribute(self) -> "SplitSettings":
        if bool(self.test_folds) != bool(self.fold_attribute):
            raise ValueError("fold_attribute and test_folds are given together, or neither is")
        return self


CleanStep = Literal["crop", "colours", "smooth", "bright", "open"]


class CleanSettings(Settings):
    """What `ustoolkit clean` does to images, in the order that `CleanStep` lists; masks are only cropped alike."""

    steps: Annotated[tuple[CleanStep, ...], Field(description="crop, colours, smooth, bright, open, or some")] = (
        "crop",
        "smooth",
        "bright",
        "open",
    )
    coloured_mark_pixels: Annotated[
        int, Field(ge=1, le=100, description="thickest coloured stroke that is painted over; thicker is Doppler")
    ] = 6
    smoothing_pixels: Annotated[float, Field(gt=0, le=50, description="standard deviation of the low-pass")] = 2.0
    smallest_bright_pixels: Annotated[
        int, Field(ge=1, le=1_000_000, description="area below which a bright object is removed")
    ] = 100
    opening_radius_pixels: Annotated[int, Field(ge=1, le=100, description="bright parts thinner are removed")] = 2


LYMPH_NODE_AUGMENTATION = AugmentationSettings(
    probability=1.0,
    rotation_degrees=90.0,
    shift=0.2,
    shear_degrees=11.46,
    zoom=0.2,
    horizontal_flip=0.5,
    vertical_flip=0.5,
    channel_shift=0.2,
    contrast=0.0,
)
"""What the lymph-node paper prints: rotation up to 90°, shift, shear, zoom and channel shift 0.2, both flips.

Its words are those of Keras' `ImageDataGenerator`, so its shear of 0.2 is an angle. Read as 0.2 radians, 11.46°: 0.2
degrees would move the edge of a picture of 256 pixels by less than half a pixel. Shear goes either way here, and all
channels shift together, since ultrasound is grey.
"""


class ExpansionSettings(Settings):
    """How a training part is expanded to equal numbers of each class."""

    method: Annotated[
        Literal["augment", "smote"],
        Field(description="augment: changed copies; smote: Borderline-SMOTE2 on the pixels of lesion regions"),
    ] = "augment"
    count: Annotated[
        int, Field(ge=0, description="training images afterwards, originals included; 0: as few as balance the classes")
    ] = 0
    seed: Annotated[int, Field(ge=0, lt=2**31, description="another seed, other images")] = 0
    size: Annotated[int, Field(ge=8, le=1024, description="height and width of a region, pixels; smote only")] = 64
    margin: Annotated[
        float, Field(ge=0, le=2, description="around a lesion, fraction of its longer side; smote only")
    ] = 0.1
    augmentation: AugmentationSettings = LYMPH_NODE_AUGMENTATION

    @model_validator(mode="after")
    def _smote_counts_itself(self) -> "ExpansionSettings":
        if self.method == "smote" and self.count:
            raise ValueError("smote makes as many images as balance the classes; leave out count")
        return self


class DataSetSettings(Settings):
    """A data set's description, one TOML file in `tfrecords/`."""

    name: Annotated[str, Field(pattern=r"^[\w.-]*$", description="'': the description's file name")] = ""
    path: Annotated[str, Field(description="the folder; relative paths start at the description's own folder")] = ""
    format: Annotated[Format, Field(description="auto: found by looking at the folder")] = "auto"
    classes: Annotated[
        tuple[str, ...], Field(min_length=2, max_length=255, description="names of mask values 0, 1, …")
    ] = ("background", "lesion")
    labels: Annotated[
        tuple[str, ...],
        Field(description="names of image labels 0, 1, …; another label keeps its text, with index -1"),
    ] = ("benign", "malignant", "normal")
    patient: Annotated[
        str,
        Field(description="regular expression on the image's id; its first group is the patient; '' for none"),
    ] = ""
    exclude: Annotated[tuple[str, ...], Field(description="ids of images to leave out")] = ()
    shapes: Annotated[
        dict[str, ShapeSettings],
        Field(description="meaning of each label that an annotator gave to shapes"),
    ] = Field(default_factory=dict)
    ignore: Annotated[tuple[str, ...], Field(description="labels of shapes to leave out")] = ()
    region_attribute: Annotated[str, Field(description="VIA's attribute that names the class; '': found")] = ""
    line_width: Annotated[int, Field(ge=1, le=100, description="pixels; lines and line strips are drawn with it")] = 10
    point_radius: Annotated[int, Field(ge=0, le=100, description="pixels; points are drawn with it")] = 5
    colours: Annotated[
        dict[str, tuple[Channel, Channel, Channel]],
        Field(description="red, green, blue of each class in coloured masks; black: background"),
    ] = Field(default_factory=dict)
    every_frame: Annotated[int, Field(ge=1, description="every k-th frame of clips and multi-frame files")] = 10
    dicom: DicomSettings = DicomSettings()
    clean: CleanSettings = CleanSettings()
    table: TableSettings = TableSettings()
    split: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _names_are_classes(self) -> "DataSetSettings":
        for kind, names in (("shapes", [shape.pixels for shape in self.shapes.values()]), ("colours", self.colours)):
            unknown = [name for name in names if name and name not in self.classes]
            if unknown:
                raise ValueError(f"[{kind}] names '{unknown[0]}', which is none of classes: {', '.join(self.classes)}")
        return self
