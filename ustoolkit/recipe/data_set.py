"""What a data set's description says: where it lies, how to read it, who is a patient, which classes there are."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ustoolkit.recipe.settings import Settings


class TableSettings(Settings):
    """Which column of a CSV table means what; an empty name means 'find it by its usual spellings'."""

    file: Annotated[str, Field(description="CSV file, relative to the data set's folder")] = ""
    source_id: Annotated[str, Field(description="column that names the image, its stem or file name")] = ""
    patient: str = ""
    label: str = ""
    spacing_row_mm: str = ""
    spacing_column_mm: str = ""


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
    format: Annotated[
        Literal["auto", "phantom", "table", "mask-folder"],
        Field(description="auto: found by looking at the folder"),
    ] = "auto"
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
    table: TableSettings = TableSettings()
    split: SplitSettings = SplitSettings()
