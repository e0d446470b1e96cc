"""The beginning of a run: records checked, split read, folder made, first weights given."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ustoolkit.data.labels import labels_of
from ustoolkit.data.leaks import check_splits, find_leaks, listed_leaks
from ustoolkit.data.records import Records
from ustoolkit.data.split import Splits, check_trainable, read_splits
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.pixels import OFF
from ustoolkit.recipe.training import TrainingSettings
from ustoolkit.run import Run

if TYPE_CHECKING:
    import tf_keras as keras

_LISTED = 10


def start_run(
    recipe: Recipe,
    records: Records,
    out: Path,
    splits: Path | None = None,
    overwrite: bool = False,
    allow_leak: bool = False,
) -> Run:
    """Makes the folder of a new run.

    Where `training.images` says so, only some images of the split are used; the run's split names no others. Its
    checksums of what training saw are of these images, and of those that the run of `training.initial_weights` saw.

    Args:
        recipe: the resolved settings.
        records: what to train on; every shard is read and its checksum compared.
        out: the folder to make.
        splits: a `splits.json`; None for the one in the records folder.
        overwrite: whether a run that is already there may be replaced.
        allow_leak: whether the split may divide a patient or a picture, or the run of `training.initial_weights` may
            have seen what is tested on; the run then says so in `leaks` and `warnings`.
    Raises:
        RecordsError: a shard is damaged, or the split is missing, does not fit, leaks, or cannot be trained on.
        RunError: `training.initial_weights` is no trained run.
        RecipeError: it is the folder to make, or `model.weights` names no weights.
        OutputError: the folder is taken or cannot be written.
    """
    source = _source_run(recipe, out)
    warnings = _weights_warnings(recipe, source)
    records.verify()
    parts = read_splits(splits or records.folder / "splits.json", records, allow_leak)
    for part, purpose in (("train", "training"), ("validation", "validation")):
        check_trainable(parts[part], records, purpose, "label" if recipe.classifies else "mask")
    parts = draw_images(parts, recipe.training)
    labels = check_labels(parts, records, recipe) if recipe.classifies else []
    seen = {*parts["train"], *parts["validation"]}
    trained_on = {row.sha256 for row in records.index if row.source_id in seen}
    divided = find_leaks(parts, records.index)
    leaks = [str(leak) for leak in divided]
    if divided:
        warnings.insert(0, f"the split leaks, so that scores are too good: {listed_leaks(divided)}.")
    if source is not None:
        seen_before = _seen_before(source, records, parts)
        if seen_before and not allow_leak:
            raise RecordsError(
                f"training.initial_weights: {source.folder} was trained on images that are tested on here: "
                f"{_listed(seen_before)}. Start from a run that did not see them, split so that they are no test part, "
                "or say --allow-leak and have every result marked."
            )
        if seen_before:
            warnings.append(
                f"the run that training starts from saw images that are tested on, so that scores are too good: "
                f"{_listed(seen_before)}."
            )
        leaks += seen_before
        trained_on |= source.trained_on
        learnt = len(_learnt_by(source, records) & {*parts["validation"]})
        if learnt:
            warnings.append(
                f"the run that training starts from learnt from {learnt} images of the validation part, so that its "
                "scores, by which the best epoch is chosen and settings are tuned, are too good."
            )
    run = Run.create(out, recipe, records.manifest, records.folder, parts, sorted(trained_on), overwrite)
    if labels:
        run.update(labels=labels)
    if leaks:
        run.update(leaks=leaks)
    if warnings:
        run.update(warnings=warnings)
    return run


def give_first_weights(model: "keras.Model", run: Run) -> list[str]:
    """Gives the network of a new run the weights that its recipe starts from.

    First those of `model.weights`, then those of the run in `training.initial_weights`, layer by layer where names and
    shapes agree. What was loaded is kept in `run.json`, under `pretrained` and `initial_weights`.

    Args:
        model: the run's network, built; its weights are changed.
        run: the run; its recipe says where weights come from.
    Returns:
        a line for each source that says what was loaded; none where the network begins at random.
    Raises:
        RecipeError: weights cannot be read, do not fit, or no layer of the other run does.
        RunError: the other run has no weights.
    """
    lines = []
    weights, pretrained = getattr(run.recipe.model, "weights", OFF), None
    if weights != OFF:
        from ustoolkit.models.pretrained import load_pretrained

        pretrained = load_pretrained(model, run.recipe.model)
    if pretrained is not None:
        run.update(pretrained={"weights": weights, "loaded": len(pretrained.loaded)})
        layers = len(pretrained.loaded) + len(pretrained.not_loaded)
        lines.append(f"started from weights '{weights}': {len(pretrained.loaded)} of {layers} layers")
    source = _source_run(run.recipe, run.folder)
    if source is None:
        return lines
    from ustoolkit.models.load import load_model
    from ustoolkit.models.transfer import load_matching

    transfer = load_matching(model, load_model(source))
    reasons = [f"{name}: {reason}" for name, reason in transfer.not_loaded.items()]
    if not transfer.loaded:
        raise RecipeError(
            f"training.initial_weights: {source.folder}: expected a run with layers like those of "
            f"{run.recipe.model.name} here, found none ({_listed(reasons)}). Name a run of such a network, or set "
            f"training.initial_weights={OFF}."
        )
    run.update(
        initial_weights={
            "run": str(source.folder.resolve()),
            "loaded": len(transfer.loaded),
            "layers": list(transfer.loaded),
            "not_loaded": transfer.not_loaded,
        }
    )
    total = len(transfer.loaded) + len(reasons)
    rest = f"; not loaded: {_listed(reasons)}" if reasons else ""
    return [*lines, f"started from {source.folder}: {len(transfer.loaded)} of {total} layers{rest}"]


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


def check_labels(parts: Splits, records: Records, recipe: Recipe) -> list[str]:
    """Checks that a split can teach a network to classify.

    Args:
        parts: source ids by part.
        records: where the images are.
        recipe: says which label is the positive one, and where lesions are.
    Returns:
        the labels, the positive one last.
    Raises:
        RecordsError: a part has images of one label only, or of one that training does not have; or images have no
            lesion where it is to be cut out.
    """
    rows = {row.source_id: row for row in records.index}
    try:
        labels = labels_of((rows[name] for name in parts["train"]), recipe.classification.positive)
    except RecordsError as problem:
        raise RecordsError(f"{records.folder}, part 'train': {problem}") from None
    for part in ("train", "validation"):
        found = {rows[name].label for name in parts[part]}
        if found - set(labels):
            raise RecordsError(
                f"{records.folder}: expected images of {', '.join(labels)} in the part '{part}', as in training, found "
                f"'{min(found - set(labels))}' too. Split again, or leave these images out."
            )
        if found != set(labels):
            raise RecordsError(
                f"{records.folder}: expected images of {', '.join(labels)} in the part '{part}', found only "
                f"{', '.join(sorted(found))}. Split again with another --seed or a larger share, or add images."
            )
    if recipe.classification.region.source == "truth":
        lacking = sorted(name for part in ("train", "validation") for name in parts[part] if not rows[name].regions)
        if lacking:
            raise RecordsError(
                f"{records.folder}: {len(lacking)} images have no lesion to cut out ({_listed(lacking)}). Draw it, "
                "leave them out of the split, or set classification.region.source to 'image' or 'predicted'."
            )
    return labels


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
    if run.state["status"] == "started":
        run.update(status="resumed")  # so that what it has done already is not discarded with a run that cannot begin
    return run


def _source_run(recipe: Recipe, out: Path) -> Run | None:
    """The trained run of `training.initial_weights`; None where it is off."""
    folder = recipe.training.initial_weights
    if folder == OFF:
        return None
    try:
        source = Run(Path(folder).expanduser())
    except RunError as problem:
        raise RunError(f"training.initial_weights: {problem}") from None
    if source.folder.resolve() == Path(out).resolve():
        raise RecipeError(
            f"training.initial_weights: {folder}: a run cannot start from itself. Train into another folder."
        )
    if not source.best_weights.is_file():
        raise RunError(
            f"training.initial_weights: {source.folder}: expected trained weights in {source.best_weights.name}, found "
            "none. Train that run first."
        )
    return source


def _weights_warnings(recipe: Recipe, source: Run | None) -> list[str]:
    """What does not suit the weights that a network starts from."""
    warnings = []
    if getattr(recipe.model, "weights", OFF) != OFF:
        from ustoolkit.models.pretrained import check_pretrained

        warnings += check_pretrained(recipe.model)
    if source is None:
        return warnings
    here, there = (getattr(each.model, "pixel_normalization", "") for each in (recipe, source.recipe))
    if here != there:
        warnings.append(
            f"{source.folder} was trained with model.pixel_normalization='{there}', and the recipe has '{here}', so "
            "that the network begins with values that it was not trained on."
        )
    return warnings


def _seen_before(source: Run, records: Records, parts: Splits) -> list[str]:
    """What of the test part another run was trained on, or belongs to what it was trained on; in words."""
    trained_on, test = source.trained_on, set(parts["test"])
    same = {row.source_id for row in records.index if row.sha256 in trained_on}
    leaks = [f"'{source_id}' in 'test' is one of its images" for source_id in sorted(same & test)]
    # Its other images in these records say which patients and near-duplicates it saw.
    related = find_leaks({"its images": sorted(same - test), "test": sorted(test - same)}, records.index)
    return leaks + [str(leak) for leak in related if len(leak.parts) > 1]


def _learnt_by(source: Run, records: Records) -> set[str]:
    """Images that another run was trained on; of other records' it is not known which it was only validated on."""
    if source.manifest["digest"] == records.digest:
        return set(source.splits["train"])
    return {row.source_id for row in records.index if row.sha256 in source.trained_on}


def _listed(items: list[str]) -> str:
    more = f"; … ({len(items)} in all)" if len(items) > _LISTED else ""
    return "; ".join(items[:_LISTED]) + more
