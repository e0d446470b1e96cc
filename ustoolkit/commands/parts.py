"""Commands on records: divide them into parts, expand the training part."""

import argparse

from ustoolkit.commands.console import Outcome, warn


def split(options: argparse.Namespace) -> Outcome:
    """Divides records by patient: once, or once a fold."""
    from ustoolkit.data.leaks import find_leaks, listed_leaks
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import measure, read_splits, write_splits
    from ustoolkit.data.split_files import draw_splits, splits_file
    from ustoolkit.data.stratify import format_balance
    from ustoolkit.recipe.data_set import SplitSettings

    records = Records(options.records)
    given = {name: getattr(options, name) for name in SplitSettings.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    kept_test = read_splits(options.keep_test, records)["test"] if options.keep_test else ()
    drawn = draw_splits(records.index, given, options.folds, options.allow_leak, kept_test)
    results, lines = [], []
    for fold, (splits, how) in drawn.items():
        out = splits_file(options.out or records.folder, fold)
        write_splits(out, splits, how, records)
        counts = {part: len(names) for part, names in splits.items()}
        even, leaks = measure(splits, records.index), find_leaks(splits, records.index)
        if leaks:
            warn(f"{out}: {listed_leaks(leaks)}. Train on it with --allow-leak; every result is marked.")
        results.append({"file": str(out), **counts, "balance": even, "leaks": [str(leak) for leak in leaks]})
        lines.append(f"{', '.join(f'{part} {n}' for part, n in counts.items())} in {out}; {format_balance(even)}")
    return results[0] if "" in drawn else {"folds": results}, "\n".join(lines)


def expand(options: argparse.Namespace) -> Outcome:
    """Expands the training part."""
    from ustoolkit.data.expand import expand_records, format_expansion
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import read_splits
    from ustoolkit.recipe import validate
    from ustoolkit.recipe.data_set import ExpansionSettings

    records = Records(options.records)
    given = {name: getattr(options, name, None) for name in ExpansionSettings.model_fields}
    settings = validate(ExpansionSettings, {key: value for key, value in given.items() if value is not None}, "expand")
    splits = read_splits(options.splits or records.folder / "splits.json", records, options.allow_leak)
    expanded = expand_records(
        records, splits, options.out, settings, options.workers, options.overwrite, options.allow_leak
    )
    refused = expanded.manifest["refused"]
    if refused:
        reasons = "".join(f"\n  {item['reason']}" for item in refused)
        warn(f"{len(refused)} images were left out:{reasons}")
    parts = read_splits(expanded.folder / "splits.json", expanded, options.allow_leak)
    counts = {part: len(names) for part, names in parts.items()}
    return {"folder": str(expanded.folder), **counts, "refused": refused}, format_expansion(expanded, parts)
