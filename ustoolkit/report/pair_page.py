"""Two runs side by side as one page: their scores on the same images, where each is better, and what differs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ustoolkit.data.records import Records, records_of
from ustoolkit.errors import RunError
from ustoolkit.files import safe_name, write_text
from ustoolkit.inference.overlay import PREDICTION_COLOUR, TRUTH_COLOUR
from ustoolkit.recipe import Recipe
from ustoolkit.report import contents, pair_figures
from ustoolkit.report.attribute_texts import attribute_texts
from ustoolkit.report.cases import Case, draw_cases
from ustoolkit.report.pair_scores import (
    Pairs,
    Side,
    dice_difference,
    group_rows,
    metric_rows,
    pair_images,
    read_side,
    seen_in_training,
)
from ustoolkit.report.rendering import css, render_page
from ustoolkit.report.scores import EXPLANATIONS, ImageScore, labels_of
from ustoolkit.run import Run

MOST_CASES = 6  # shown of each kind; each is two pictures
_LEAST_CHANGE = 0.005  # of Dice, below which two outlines look the same
_POOR = 0.5  # Dice of the better one of two, below which both are called poor
_ENDINGS = {"_mm": "mm", "_pixel": "pixels"}

Pair = tuple[ImageScore, ImageScore]


def write_pair_page(
    first: Run, other: Run, out: Path | None = None, records: Records | None = None, part: str = "test"
) -> Path:
    """Writes a page that sets two runs side by side on the images that both were scored on.

    The page needs nothing beside it. It holds images of the part: as confidential as they are.

    Args:
        first: what the other is compared with; evaluated.
        other: evaluated on the same images or on some of them.
        out: the file; None for `report-against-OTHER.html` in the first run's folder.
        records: those that the first was evaluated on; None for where it says that they were.
        part: name of both evaluations.
    Returns:
        the page's path.
    Raises:
        RunError: one is not evaluated, is damaged or classifies, both are one run, or they have no image in common.
        RecordsError: the records are missing or damaged.
        OutputError: the page cannot be written.
    """
    if first.folder.resolve() == other.folder.resolve():
        raise RunError(f"{other.folder}: expected two runs, found the same one twice. Name another run.")
    sides = read_side(first, part), read_side(other, part)
    _check_classes(first, other)
    records = records or _evaluated_records(sides[0])
    pairs = pair_images(*sides, records)
    names = run_names(first.folder, other.folder)
    page = render_page(
        "pair.html",
        names=names,
        part=part,
        pairs=pairs,
        records=records.folder.name,
        warnings=[warning for side, name in zip(sides, names, strict=True) for warning in _warnings(side, name, pairs)],
        difference=dice_difference(pairs),
        counts=_counts(pairs),
        metrics=[_named(row) for row in metric_rows(*sides, pairs)],
        groups=group_rows(pairs),
        scatter=_plots(pairs, names),
        legend=_legend(pairs),
        images=_image_rows(pairs),
        attributes=attribute_texts(pairs.index),
        cases=_drawn(sides, pairs, records),
        colours={"truth": css(TRUTH_COLOUR), "prediction": css(PREDICTION_COLOUR)},
        trained=_beside(contents.training(first), contents.training(other)),
        settings=_beside(_flat(first.recipe), _flat(other.recipe), equal=False),
        made=_beside(contents.provenance(first), contents.provenance(other), equal=False),
        same=sorted(set(contents.provenance(first)) & set(contents.provenance(other))),
    )
    path = out or first.folder / f"report-against-{safe_name(names[1])}.html"
    write_text(path, page)
    return path


def run_names(first: Path, other: Path) -> tuple[str, str]:
    """What two runs are called: the ends of their paths, as long as they must be to differ."""
    one, two = (path.resolve().parts for path in (first, other))
    length = next((length for length in range(1, len(one)) if one[-length:] != two[-length:]), 1)
    return "/".join(one[-length:]), "/".join(two[-length:])


def choose_pairs(pairs: Pairs) -> dict[str, list[Pair]]:
    """The images to show.

    Returns:
        'other' (those whose Dice is higher in the other run, the largest difference first), 'first' (the contrary) and
        'poor' (those where both are below one half, the lowest sum first and none of the others), at most `MOST_CASES`
        each.
    """
    both = [pair for pair in zip(*pairs.scores, strict=True) if not math.isnan(pair[0].dice + pair[1].dice)]
    ranked = sorted(both, key=lambda pair: (pair[0].dice - pair[1].dice, pair[0].source_id))
    chosen = {
        "other": [pair for pair in ranked if pair[1].dice - pair[0].dice > _LEAST_CHANGE][:MOST_CASES],
        "first": [pair for pair in reversed(ranked) if pair[0].dice - pair[1].dice > _LEAST_CHANGE][:MOST_CASES],
    }
    shown = {pair[0].source_id for group in chosen.values() for pair in group}
    poor = [pair for pair in both if max(pair[0].dice, pair[1].dice) < _POOR and pair[0].source_id not in shown]
    poor.sort(key=lambda pair: (pair[0].dice + pair[1].dice, pair[0].source_id))
    return {**chosen, "poor": poor[:MOST_CASES]}


def _check_classes(first: Run, other: Run) -> None:
    if first.classes != other.classes:
        raise RunError(
            f"{other.folder}: expected the classes {', '.join(first.classes)} as in {first.folder}, found "
            f"{', '.join(other.classes)}. Compare runs of the same classes."
        )


def _evaluated_records(side: Side) -> Records:
    if side.settings.get("own_records", True):
        return records_of(side.run)
    return Records(side.settings["records"])


def _warnings(side: Side, name: str, pairs: Pairs) -> list[str]:
    said = [f"{name}: {warning}" for warning in side.run.state.get("warnings", ())]
    said += [f"{name}: {warning}" for warning in contents.older_weights(side.run, dict(side.settings))]
    if side.run.state.get("status") != "finished":
        said.append(f"{name}: its training has not finished; these are scores of its best epoch when it was evaluated.")
    if seen := seen_in_training(side, pairs.index):
        said.append(
            f"{name} was trained on {seen} of these {len(pairs.index)} images, or chose its best epoch by them, so "
            "that its scores flatter it."
        )
    return said


def _counts(pairs: Pairs) -> dict[str, int]:
    """On how many images each is higher, and how many lesions each missed."""
    first, other = pairs.dice
    missed = [[score.missed for score in scores] for scores in pairs.scores]
    return {
        "higher": int((other > first).sum()),
        "lower": int((other < first).sum()),
        "equal": int((other == first).sum()),
        "missed_first": sum(missed[0]),
        "missed_other": sum(missed[1]),
        "missed_both": sum(one and two for one, two in zip(*missed, strict=True)),
    }


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of scores with its name, unit and digits."""
    ending = next((ending for ending in _ENDINGS if row["metric"].endswith(ending)), "")
    key = row["metric"].removesuffix(ending)
    name = EXPLANATIONS[key][0] if key in EXPLANATIONS else key.replace("_", " ").capitalize()
    digits = 4 if key in ("pixel_error", "specificity") else 2 if ending else 3
    return {**row, "name": name, "unit": _ENDINGS.get(ending, ""), "digits": digits}


def _plots(pairs: Pairs, names: tuple[str, str]) -> tuple[str, str]:
    """Both plots; '' where no image has a Dice in both."""
    labels = labels_of(pairs.scores[0])
    both = [pair for pair in zip(*pairs.scores, strict=True) if not math.isnan(pair[0].dice + pair[1].dice)]
    if not both:
        return "", ""
    groups = [labels.index(first.label) for first, _ in both]
    scatter = pair_figures.dice_scatter(
        [first.dice for first, _ in both], [other.dice for _, other in both], groups, names
    )
    title = f"Dice of {names[1]} less that of {names[0]}"
    return scatter, pair_figures.sorted_differences([other.dice - first.dice for first, other in both], title)


def _legend(pairs: Pairs) -> list[tuple[int, str]]:
    labels = labels_of(pairs.scores[0])
    return (
        [(min(number, 6), label or "no label") for number, label in enumerate(labels, start=1)] if any(labels) else []
    )


def _image_rows(pairs: Pairs) -> list[dict[str, Any]]:
    """All images, the largest difference first whichever way, those without one last."""
    rows = [
        {"first": first, "other": other, "difference": other.dice - first.dice}
        for first, other in zip(*pairs.scores, strict=True)
    ]

    def rank(row: dict[str, Any]) -> tuple[bool, float]:
        undefined = math.isnan(row["difference"])
        return undefined, 0.0 if undefined else -abs(row["difference"])

    return sorted(rows, key=rank)


def _drawn(sides: tuple[Side, Side], pairs: Pairs, records: Records) -> dict[str, list[tuple[Case, Case]]]:
    groups = choose_pairs(pairs)
    drawn = []
    for number, side in enumerate(sides):
        scores = {group: [pair[number] for pair in chosen] for group, chosen in groups.items()}
        masks = side.run.evaluation(side.part) / "masks"
        drawn.append(draw_cases(scores, records, masks, len(side.run.classes)))
    return {group: list(zip(drawn[0][group], drawn[1][group], strict=True)) for group in groups}


def _flat(recipe: Recipe) -> list[tuple[str, str]]:
    """Settings by their whole names, as `--set` takes them."""

    def entries(content: Mapping[str, Any], before: str) -> list[tuple[str, str]]:
        found = []
        for key, value in content.items():
            name = f"{before}{key}"
            found += entries(value, f"{name}.") if isinstance(value, Mapping) else [(name, str(value))]
        return found

    return entries(recipe.model_dump(mode="json"), "")


def _beside(
    first: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]], equal: bool = True
) -> list[tuple[str, str, str]]:
    """Names with the values of both; without those that are equal where that is not asked for."""
    both = dict(first), dict(other)
    names = dict.fromkeys([*both[0], *both[1]])
    rows = [(name, both[0].get(name, "–"), both[1].get(name, "–")) for name in names]
    return [row for row in rows if equal or row[1] != row[2]]
