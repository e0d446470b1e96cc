"""The beginning of a run: records checked, split read, folder made."""

from pathlib import Path

from ustoolkit.data.leaks import check_splits, find_leaks, listed_leaks
from ustoolkit.data.records import Records
from ustoolkit.data.split import check_trainable, read_splits
from ustoolkit.errors import RunError
from ustoolkit.recipe import Recipe
from ustoolkit.run import Run


def start_run(
    recipe: Recipe,
    records: Records,
    out: Path,
    splits: Path | None = None,
    overwrite: bool = False,
    allow_leak: bool = False,
) -> Run:
    """Makes the folder of a new run.

    Args:
        recipe: the resolved settings.
        records: what to train on; every shard is read and its checksum compared.
        out: the folder to make.
        splits: a `splits.json`; None for the one in the records folder.
        overwrite: whether a run that is already there may be replaced.
        allow_leak: whether the split may divide a patient or a picture; the run then says so in `leaks` and `warnings`.
    Raises:
        RecordsError: a shard is damaged, or the split is missing, does not fit, leaks, or cannot be trained on.
        OutputError: the folder is taken or cannot be written.
    """
    records.verify()
    parts = read_splits(splits or records.folder / "splits.json", records, allow_leak)
    for part, purpose in (("train", "training"), ("validation", "validation")):
        check_trainable(parts[part], records, purpose)
    seen = {*parts["train"], *parts["validation"]}
    trained_on = sorted({row.sha256 for row in records.index if row.source_id in seen})
    run = Run.create(out, recipe, records.manifest, records.folder, parts, trained_on, overwrite)
    leaks = find_leaks(parts, records.index)
    if leaks:
        warning = f"the split leaks, so that scores are too good: {listed_leaks(leaks)}."
        run.update(leaks=[str(leak) for leak in leaks], warnings=[warning])
    return run


def resume_run(records: Records, out: Path) -> Run:
    """Opens a run to go on with, with the recipe and the split that it began with.

    Raises:
        RunError: there is no run, or it began on other records.
        RecordsError: a shard is damaged.
    """
    run = Run(out)
    if run.manifest["digest"] != records.digest:
        raise RunError(
            f"{out}: this run began on other records than {records.folder}. Name the same records, or train into a "
            "new folder."
        )
    records.verify()
    check_splits(run.splits, records.index, allow_leak=bool(run.state.get("leaks")))
    return run
