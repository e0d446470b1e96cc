"""What a data set's description says: where it lies, how to read it, who is a patient, which classes there are."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ustoolkit.recipe.settings import Settings

Channel = Annotated[int, Field(ge=0, le=255)]
Format = Literal["auto", "phantom", "labelme", "via", "coco", "nnunet", "dicom", "video", "table", "mask-folder"]


class TableSettings(Settings):
    """Which column of a CSV table means what; an empty name means 'find it by its usual spellings'."""

    file: Annotated[str, Field(description="CSV file, relative to the data set's folder")] = ""
    source_id: Annotated[str, Field(description="column that names the image, its stem or file name")] = ""
    patient: str = ""
    label: str = ""
    spacing_row_mm: str = ""
    spacing_column_mm: str = ""
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


class DataSetSettings(Settings):
    """A data set's description, one TOML file in `tfrecords/`."""

    name: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
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
    shapes: Annotated[
        dict[str, ShapeSettings],
        Field(default_factory=dict, description="meaning of each label that an annotator gave to shapes"),
    ]
    ignore: Annotated[tuple[str, ...], Field(description="labels of shapes to leave out")] = ()
    region_attribute: Annotated[str, Field(description="VIA's attribute that names the class; '': found")] = ""
    line_width: Annotated[int, Field(ge=1, le=100, description="pixels; lines and line strips are drawn with it")] = 10
    point_radius: Annotated[int, Field(ge=0, le=100, description="pixels; points are drawn with it")] = 5
    colours: Annotated[
        dict[str, tuple[Channel, Channel, Channel]],
        Field(default_factory=dict, description="red, green, blue of each class in coloured masks; black: background"),
    ]
    every_frame: Annotated[int, Field(ge=1, description="every k-th frame of clips and multi-frame files")] = 10
    dicom: DicomSettings = DicomSettings()
    table: TableSettings = TableSettings()
    split: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _names_are_classes(self) -> "DataSetSettings":
        for kind, names in (("shapes", [shape.pixels for shape in self.shapes.values()]), ("colours", self.colours)):
            unknown = [name for name in names if name and name not in self.classes]
            if unknown:
                raise ValueError(f"[{kind}] names '{unknown[0]}', which is none of classes: {', '.join(self.classes)}")
        return self
