"""Which images each arm of a study is trained and tested on, and how those are made that are not there yet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.data.clean import clean_sample
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import Records, record_entries, write_records
from ustoolkit.data.sample import Sample
from ustoolkit.data.split import Splits, read_splits, write_splits
from ustoolkit.data.split_files import draw_splits
from ustoolkit.errors import RecordsError
from ustoolkit.files import read_json
from ustoolkit.recipe import validate
from ustoolkit.recipe.data_set import CleanSettings, DataSetSettings
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.comparison import SECOND, Arm, Preparation, Study
from ustoolkit.studies.protocols import protocol_records, protocol_splits

_FOLDS, _PREPARATIONS, _SPLITS = "folds", "preparations", "splits.json"


def records_of_arm(study: Study, options: StudyOptions, arm: Arm) -> Path:
    """Folder of the records that an arm is trained on; it may have to be made first."""
    if arm.images == SECOND and options.second_records:
        return options.second_records
    if arm.images:
        return options.out / _PREPARATIONS / arm.images
    protocol = next((each for each in study.protocols if each.name == arm.protocol), None)
    own = protocol_records(protocol, options.out) if protocol else None
    return own or options.records


def splits_of_arm(study: Study, options: StudyOptions, arm: Arm, seed: int, fold: int) -> Path | None:
    """File of an arm's split; None for the one in its records folder."""
    if arm.protocol:
        protocol = next(each for each in study.protocols if each.name == arm.protocol)
        return protocol_splits(protocol, options.out, seed)
    if arm.images == SECOND:
        return options.out / _FOLDS / f"{SECOND}-fold{fold}.json" if fold else None
    # Prepared images are the same ones, divided alike.
    return split_of_records(options, fold) if fold or arm.images else options.splits


def split_of_records(options: StudyOptions, fold: int) -> Path:
    """File of the split of the study's own records: that of a fold, the one given, or the one in their folder."""
    return options.out / _FOLDS / f"fold{fold}.json" if fold else options.splits or options.records / _SPLITS


def draw_folds(records: Records, out: Path, folds: int, beginning: str = "") -> None:
    """Divides records by patient once a fold, and writes the splits to the study's folder.

    Args:
        records: to divide.
        out: folder of the study.
        folds: how many.
        beginning: of the files' names.
    Raises:
        RecordsError: there are fewer patients than folds, or folds of other records, or another number, are there.
        OutputError: the folder cannot be written to.
    """
    drawn = draw_splits(records.index, {}, folds)
    paths = {fold: out / _FOLDS / f"{beginning}fold{fold}.json" for fold in drawn}
    for fold, (splits, _) in drawn.items():
        if paths[fold].is_file() and read_splits(paths[fold], records) != splits:
            raise RecordsError(
                f"{paths[fold]}: expected fold {fold} of {folds} of {records.folder}, found another split. Ask for the "
                "folds and records of before, choose another --out, or remove this folder and train anew."
            )
    for fold, (splits, how) in drawn.items():
        if not paths[fold].is_file():
            write_splits(paths[fold], splits, how, records)


def prepare_images(preparation: Preparation, records: Records, splits: Splits, out: Path, workers: int = 0) -> Records:
    """Makes the records of a preparation, unless they are there.

    Args:
        preparation: which.
        records: of the study.
        splits: whose images are prepared.
        out: folder of the study.
        workers: processes; 0 for one a core.
    Returns:
        the prepared records, with the same source ids.
    Raises:
        RecordsError: an image cannot be prepared, or what is there was made of other images or in another way.
        OutputError: the folder cannot be written to.
    """
    folder = out / _PREPARATIONS / preparation.name
    settings = validate(CleanSettings, {"steps": preparation.steps}, "clean")
    how = {"prepared_from": records.digest, **settings.model_dump(mode="json")}
    wanted = {name for names in splits.values() for name in names}
    remedy = "Choose another --out, or remove this folder to have it made again."
    if (folder / _SPLITS).is_file():
        found = read_json(folder / _SPLITS, RecordsError, remedy).get("how")
        made = Records(folder)
        if found != how or {row.source_id for row in made.index} != wanted:
            raise RecordsError(f"{folder}: expected images prepared as the study says, found others. {remedy}")
        return made
    entries = [
        Entry(entry.source_id, _Prepared(entry.load, settings))
        for entry in record_entries(records)
        if entry.source_id in wanted
    ]
    described = validate(DataSetSettings, records.manifest["settings"], str(records.folder / "manifest.json"))
    made = write_records(entries, folder, described, workers, overwrite=True)
    refused = made.manifest["refused"]
    if refused:
        raise RecordsError(f"{folder}: {len(refused)} images cannot be prepared: {refused[0]['reason']}")
    write_splits(folder / _SPLITS, splits, how, made)
    return made


@dataclass(frozen=True)
class _Prepared:
    """Loads an image and cleans it; it can be sent to another process."""

    load: Callable[[], Sample]
    settings: CleanSettings

    def __call__(self) -> Sample:
        return clean_sample(self.load(), self.settings)
