"""Where images come from: an annotated folder of any form, or a records folder."""

from pathlib import Path

from ustoolkit.data.readers import describe, open_data_set
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import Records, is_records_folder, record_entries
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings, validate

_FIXED = ("format", "patient", "classes", "labels")  # what a record holds already


def open_source(root: Path, settings: DataSetSettings) -> tuple[list[Entry], DataSetSettings]:
    """Lists the images of a folder, without reading any.

    Args:
        root: annotated images in a form that a reader knows, or what `ustoolkit records` wrote.
        settings: as described.
    Returns:
        the entries, and the settings with what the folder itself says. Of records these are the manifest's, with what
        `settings` gives besides.
    Raises:
        DataError: the folder cannot be read, or settings are given that records have fixed already.
        RecordsError: the records are damaged.
    """
    if not is_records_folder(root):
        settings = describe(root, settings)
        return open_data_set(root, settings), settings
    records = Records(root)
    told = validate(DataSetSettings, records.manifest["settings"], str(root / "manifest.json"))
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    for name in _FIXED:
        if name in given and given[name] not in ("auto", "", getattr(told, name)):
            raise DataError(
                f"{root}: these records hold {name} {getattr(told, name)!r} already, found {given[name]!r}. Leave "
                f"{name} out, or name the folder that they were made from."
            )
    return record_entries(records), told.model_copy(
        update={name: value for name, value in given.items() if name not in _FIXED}
    )
