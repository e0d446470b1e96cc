"""The beginning of a run: records checked, split read, folder made."""

from pathlib import Path

import numpy as np

from ustoolkit.data.leaks import check_splits, find_leaks, listed_leaks
from ustoolkit.data.records import Records
from ustoolkit.data.split import Splits, check_trainable, read_splits
from ustoolkit.errors import RunError
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.settings import TrainingSettings
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

    Where `training.images` says so, only some images of the split are used; the run's split and its checksums of what
    training saw name no others.

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
    parts = draw_images(parts, recipe.training)
    seen = {*parts["train"], *parts["validation"]}
    trained_on = sorted({row.sha256 for row in records.index if row.source_id in seen})
    run = Run.create(out, recipe, records.manifest, records.folder, parts, trained_on, overwrite)
    leaks = find_leaks(parts, records.index)
    if leaks:
        warning = f"the split leaks, so that scores are too good: {listed_leaks(leaks)}."
        run.update(leaks=[str(leak) for leak in leaks], warnings=[warning])
    return run


def draw_images(parts: Splits, training: TrainingSettings) -> Splits:
    """Draws the images to train and validate on where `training.images` says how many at most.

    Args:
        parts: source ids by part.
        training: of it, `images` for training, a quarter of them and at least 1 for validation; and the seed. 0 images
            stands for all.
    Returns:
        source ids by part, in the order that they were in. Each image is as likely to be drawn; the test part stays
        whole. With the same seed, a draw of more images holds those of a draw of fewer.
    """
    if not training.images:
        return parts
    most = {"train": training.images, "validation": max(1, training.images // 4)}
    drawn = dict(parts)
    for number, (part, count) in enumerate(most.items()):
        order = np.random.default_rng([training.seed, number]).permutation(len(parts[part]))
        drawn[part] = [parts[part][place] for place in np.sort(order[:count])]
    return drawn


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
