"""What a data set's description says: where it lies, how to read it, who is a patient, which classes there are."""

from typing import Annotated, Literal

from pydantic import Field

from ustoolkit.recipe.settings import Settings


class TableSettings(Settings):
    """Which column of a CSV table means what; an empty name means 'find it by its usual spellings'."""

    file: Annotated[str, Field(description="CSV file, relative to the data set's folder")] = ""
    source_id: Annotated[str, Field(description="column that names the image, its stem or file name")] = ""
    patient: str = ""
    label: str = ""
    spacing_row_mm: str = ""
    spacing_column_mm: str = ""


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
        Field(description="regular expression on the file's stem whose first group is the patient; '' for none"),
    ] = ""
    table: TableSettings = TableSettings()
