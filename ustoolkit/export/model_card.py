"""What an export is, in a page that a person reads before using it (after Mitchell et al., "Model cards for model
reporting", FAT* 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ustoolkit.export.formats import FORMATS


def model_card(metadata: Mapping[str, Any]) -> str:
    """The model card of an export, as Markdown.

    Args:
        metadata: of `ustoolkit.export.metadata.describe_export`, with the formats that were written.
    """
    segmenters = metadata["segmenters"]
    several = len(segmenters) > 1
    runs = [*segmenters, *filter(None, [metadata.get("classifier")])]
    sections = [
        f"# {metadata['name']}, version {metadata['version']}",
        f"**{metadata['notice']}**",
        _table(("", ""), _about(metadata)),
        f"## Intended use\n\n{metadata['intended_use']}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in metadata["limits"]),
        "## Networks\n\n" + _table(("run", "network", "recipe", "seed", "trained on"), map(_network, runs)),
        "The segmenters' probabilities are averaged." if several else "",
        _classifier(metadata.get("classifier")),
        "## Scores\n\n" + _scores(runs),
        _measured(metadata["formats"]),
        "## What it does with an image\n\n" + "\n".join(f"- {step}" for step in _steps(metadata)),
        "## How to call it\n\n" + _signatures(metadata["signatures"]) if metadata["signatures"] else "",
        "## Made with\n\n" + ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _about(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("task", metadata["task"]), ("made", metadata["created"]), ("classes", ", ".join(metadata["classes"]))]
    rows += [("files", ", ".join(about["file"] for about in metadata["formats"].values() if about))]
    return rows


def _network(run: Mapping[str, Any]) -> tuple[str, ...]:
    on = run["trained_on"]
    counts, parts = on["counts"], ", ".join(f"{count} {part}" for part, count in on["parts"].items())
    labels = "".join(f", {count} {label}" for label, count in counts.get("by_label", {}).items())
    images = f"{counts['images']} images of {counts['patients']} patients{labels}"
    data = f"{on['data_set'] or 'a data set without a name'}: {images}; parts: {parts} (records {on['digest'][:12]})"
    return run["run"], run["network"], run["recipe"], str(run["seed"]), data


def _classifier(classifier: Mapping[str, Any] | None) -> str:
    if classifier is None:
        return ""
    labels = " or ".join(classifier["labels"])
    lines = [
        f"## Classifier\n\n{classifier['network']} by the recipe {classifier['recipe']} says {labels} of the region "
        f"around the lesion that was found. Its probabilities are calibrated by a temperature of "
        f"{classifier['temperature']:.3f}, found on images that it did not learn from."
    ]
    if classifier["threshold"] is not None:
        lines.append(f"From a probability of {classifier['threshold']:.3f} on, it decides on {classifier['positive']}.")
    return " ".join(lines)


def _scores(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (run["run"], part, name, text)
        for run in runs
        for part, found in run["scores"].items()
        for name, text in _each(found)
    ]
    unmeasured = [run["run"] for run in runs if set(run["scores"]) <= {"validation"}]
    if unmeasured:
        told = f"**Not measured on images that played no role in training: {', '.join(unmeasured)}.**"
    if not rows:
        return told
    note = (
        "On the validation part the best epoch was chosen; only scores of other parts are of images that played no "
        "role in training. Its Dice is as training measured it, at the size of the network's input. Intervals are "
        "95 %, over patients."
    )
    table = _table(("run", "images", "score", "value"), rows)
    return "\n\n".join([table, *([told] if unmeasured else []), note])


def _each(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Scores of one evaluation, by name."""
    listed = []
    for name, score in found.items():
        if isinstance(score, Mapping):
            for metric, value in score.items():
                text = _value(value)
                if text:
                    listed.append((f"{metric}, {name}", text))
        elif isinstance(score, int | float):
            listed.append((name, _number(score)))
    return listed


def _value(score: Any) -> str:
    """A score with its interval, '' of what is none."""
    if isinstance(score, int | float):
        return _number(score)
    if not isinstance(score, Mapping):
        return ""
    value = score.get("mean", score.get("value"))
    if not isinstance(value, int | float):
        return ""
    low, high = score.get("interval_low"), score.get("interval_high")
    interval = f" ({_number(low)} to {_number(high)})" if low is not None and high is not None else ""
    return _number(value) + interval


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _measured(formats: Mapping[str, Any]) -> str:
    rows = []
    for form, about in formats.items():
        parity = about.get("parity")
        if parity is None:
            continue
        dice, loss = (parity[key] for key in ("dice", "dice_loss"))
        rows.append(
            (
                FORMATS[form].title,
                "undefined" if dice is None else f"{dice:.4f}",
                "undefined" if loss is None else f"{loss:+.4f}",
                f"{parity['largest_difference']:.2g}",
                f"{100 * parity['pixels_decided_otherwise']:.3f} %",
            )
        )
    if not rows:
        return ""
    images, part = next(
        (about["parity"]["images"], about["parity"]["part"]) for about in formats.values() if "parity" in about
    )
    head = ("file", "mean Dice", "Dice lost", "largest difference of a probability", "pixels decided otherwise")
    return f"## Against the networks themselves\n\nOn {images} images of {part}:\n\n" + _table(head, rows)


def _steps(metadata: Mapping[str, Any]) -> list[str]:
    settings = metadata["inference"]
    several = len(metadata["preprocessing"]) > 1
    steps = []
    for each in metadata["preprocessing"]:
        height, width = each["image_size"]
        steps.append((f"for networks of {width} × {height}: " if several else "") + "; ".join(each["steps"]))
    if settings["flips"] != "off":
        steps.append(f"averaged with mirrored images: {settings['flips']}")
    steps.append("probabilities resized to the image, bilinear")
    if len(metadata["classes"]) == 2:
        steps.append(f"lesion from a probability of {settings['threshold']:g} on")
    else:
        steps.append("each pixel of the likeliest class")
    if settings["smallest_region_pixels"] > 1:
        steps.append(f"regions of fewer than {settings['smallest_region_pixels']} pixels left out")
    if settings["opening_radius_pixels"]:
        steps.append(f"opened by a disc of radius {settings['opening_radius_pixels']} pixels")
    if settings["largest_component"]:
        steps.append("only the largest region of a class kept")
    if settings["fill_holes"]:
        steps.append("holes filled")
    if "classifier" in metadata:
        steps.append("the region around the lesion cut out and classified")
    for form, about in metadata["formats"].items():
        if form in FORMATS:
            left = "; ".join(FORMATS[form].left_to_the_caller)
            steps.append(f"left to whoever calls {about.get('file', FORMATS[form].file)}: {left}")
    return steps


def _signatures(signatures: Mapping[str, Any]) -> str:
    rows = []
    for name, ports in signatures.items():
        takes, gives = (", ".join(f"`{port}`" for port in ports[way]) for way in ("inputs", "outputs"))
        rows.append((f"`{name}`", takes, gives))
    ports = {
        key: port for each in signatures.values() for way in ("inputs", "outputs") for key, port in each[way].items()
    }
    meanings = [(f"`{key}`", port["dtype"], port["meaning"]) for key, port in sorted(ports.items())]
    return f"{_table(('signature', 'takes', 'gives'), rows)}\n\n{_table(('name', 'type', 'meaning'), meanings)}"


def _table(head: Sequence[str], rows: Any) -> str:
    """Markdown; a bar within a cell would end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
