"""Commands on data sets: simulate, inspect, clean, convert, annotate."""

import argparse
from typing import Any

from ustoolkit.commands.console import Outcome, data_set, loose_lines, warn, warn_of_problems, warn_of_refused
from ustoolkit.errors import DataError, OutputError, RecordsError


def phantom(options: argparse.Namespace) -> Outcome:
    """Simulates images."""
    from ustoolkit.data.phantom import write_phantoms

    out = write_phantoms(
        options.out, options.count, options.seed, tuple(options.size), options.frame, options.overwrite
    )
    return {"folder": str(out), "images": options.count}, f"{options.count} phantoms in {out}"


def inspect(options: argparse.Namespace) -> Outcome:
    """Says what a data set holds, and what is wrong with it."""
    from ustoolkit.data.audit import audit, format_audit, loose_files, read_parts, to_leave_out
    from ustoolkit.data.exclusions import write_exclusions
    from ustoolkit.data.source import open_source
    from ustoolkit.files import check_replaceable

    if options.out:
        check_replaceable(options.out, options.overwrite, owned_by="audit.json")
    if options.exclude and options.exclude.exists() and not options.overwrite:
        raise OutputError(
            f"{options.exclude}: there is a list already. Name another file, or add --overwrite to replace it."
        )
    splits = read_parts(options.splits) if options.splits else None
    root, settings = data_set(options)
    entries, settings = open_source(root, settings)
    loose = {} if settings.format == "dicom" else loose_files(root, entries)  # names of files may be names of patients
    entries = [entry for entry in entries if entry.source_id not in settings.exclude]
    result: dict[str, Any] = {
        "name": settings.name or ("dicom" if settings.format == "dicom" else root.resolve().name),
        "format": settings.format,
    }
    result |= audit(entries, settings.labels, options.workers, settings.classes, splits)
    result["loose_files"] = loose
    lines = [format_audit(result), *(f"notice   {line}" for line in loose_lines(loose))]
    if options.exclude:
        reasons = to_leave_out(result)
        write_exclusions(options.exclude, reasons)
        result["exclude"] = {"file": str(options.exclude), "images": len(reasons)}
        lines.append(f"{len(reasons)} images to leave out in {options.exclude}")
    if options.out:
        from ustoolkit.report.audit_page import write_audit

        lines.append(f"page in {write_audit(result, entries, options.out, options.overwrite)}")
    return result, "\n".join(lines)


def clean(options: argparse.Namespace) -> Outcome:
    """Crops and filters images, or shows what that would do to a few."""
    from ustoolkit.data.clean_set import choose_steps, write_cleaned
    from ustoolkit.data.source import open_source

    root, settings = data_set(options)
    entries, settings = open_source(root, choose_steps(settings, options.steps))
    if options.preview:
        from ustoolkit.report.clean_preview import write_preview

        path, refused = write_preview(entries, options.out, settings.clean, overwrite=options.overwrite)
        return {"preview": str(path), "refused": refused}, f"preview in {path}"
    cleaned = write_cleaned(entries, options.out, settings, options.workers, options.overwrite)
    warn_of_refused(cleaned.refused, "the rest is cleaned")
    result = {"folder": str(options.out), "images": cleaned.images, "cropped": cleaned.cropped}
    text = f"{cleaned.images} images, {cleaned.cropped} of them cropped, in {options.out}"
    return {**result, "refused": cleaned.refused}, text


def records(options: argparse.Namespace) -> Outcome:
    """Converts a data set, and splits it where that can be done."""
    from ustoolkit.data.audit import listed, loose_files
    from ustoolkit.data.exclusions import read_exclusions
    from ustoolkit.data.records import write_records
    from ustoolkit.data.records.beam import beam_engine
    from ustoolkit.data.source import open_source
    from ustoolkit.data.split import split_patients, write_splits

    engine = beam_engine(options.runner_options, options.workers) if options.engine == "beam" else None
    listed_out = read_exclusions(options.exclude) if options.exclude else set()
    root, settings = data_set(options)
    entries, settings = open_source(root, settings)
    if settings.format == "dicom":
        settings = settings.model_copy(update={"path": ""})  # a folder's name may be a patient's
    excluded = listed_out | set(settings.exclude)
    unknown = sorted(excluded - {entry.source_id for entry in entries})
    if unknown:
        warn(f"to leave out, but not there: {listed(unknown)}. Correct the list, or take them off it.")
    records = write_records(
        entries, options.out, settings, options.workers, options.overwrite, excluded=excluded, engine=engine, tell=warn
    )
    for line in loose_lines({} if settings.format == "dicom" else loose_files(root, entries)):
        warn(line)
    warn_of_problems(records)
    counts, refused = records.manifest["counts"], records.manifest["refused"]
    left_out = records.manifest["excluded"]
    lines = [f"{counts['images']} images of {counts['patients']} patients in {options.out}"]
    if left_out:
        lines.append(f"{len(left_out)} images left out as told")
    try:
        how = settings.split.model_dump(mode="json")
        splits = split_patients(records.index, **how)
        write_splits(records.folder / "splits.json", splits, how, records)
        parts = ", ".join(f"{part} {len(names)}" for part, names in splits.items())
        lines.append(f"split by patient: {parts} (another one: ustoolkit split {options.out})")
    except RecordsError as problem:
        warn(f"no split made, so this cannot be trained on yet: {problem}")
    if counts["patients"] == counts["images"] > 1 and not settings.patient:
        warn("every image counts as a patient of its own; if patients have several, say how with --patient REGEX.")
    if counts["unlabelled"]:
        warn(f"{counts['unlabelled']} images have no mask; they are kept, and not trained on.")
    warn_of_refused(refused, "the rest is converted")
    result = {"folder": str(options.out), **counts, "refused": refused, "excluded": left_out}
    return result, "\n".join(lines)


def annotations(options: argparse.Namespace) -> Outcome:
    """Writes masks as annotations that can be corrected by hand."""
    from ustoolkit.data.annotations import write_annotations
    from ustoolkit.data.source import open_source

    if options.masks and not options.masks.is_dir():
        raise DataError(f"{options.masks}: expected a folder of predicted masks, found none. Check --masks.")
    root, settings = data_set(options)
    entries, settings = open_source(root, settings)
    count, refused = write_annotations(
        entries, options.out, options.to, settings.classes, settings.labels, options.masks, options.overwrite
    )
    warn_of_refused([{"reason": reason} for reason in refused], "the rest is written")
    result = {"folder": str(options.out), "images": count, "refused": refused}
    return result, f"{count} images annotated for {options.to} in {options.out}"
