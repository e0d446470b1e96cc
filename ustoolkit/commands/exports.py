"""Commands for downstream apps: export, serve."""

import argparse
import re
import sys
from pathlib import Path

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.errors import RunError


def export(options: argparse.Namespace) -> Outcome:
    """Writes files for downstream apps."""
    from ustoolkit.files import check_replaceable
    from ustoolkit.run import Run

    first, *others = (Run(folder) for folder in options.run_folder)
    out = options.out or first.folder / "export"
    check_replaceable(out / str(options.model_version), options.overwrite, owned_by="metadata.json")
    runs, classifier = [first, *others], None
    if first.recipe.classifies:
        if others or not options.segmenter:
            found = f"{1 + len(others)} runs" if others else "none"
            raise RunError(
                f"{first.folder}: expected this classifier, and the runs that find its lesions by --segmenter, found "
                f"{found}. Name one classifier, and its segmenters by --segmenter."
            )
        runs, classifier = [Run(folder) for folder in options.segmenter], first
    elif options.segmenter:
        raise RunError(f"{first.folder}: this run segments; --segmenter is for runs that classify. Leave it out.")
    from ustoolkit.data.records import records_of
    from ustoolkit.export.exports import ExportSettings, export_runs
    from ustoolkit.export.formats import FORMATS

    settings = ExportSettings(
        formats=tuple(dict.fromkeys(options.format)),
        name=options.name or ("" if options.out else _as_name(first.folder)),
        version=options.model_version,
        flips=options.flips,
        largest_dice_loss=options.largest_dice_loss,
        allow_dice_loss=options.allow_dice_loss,
    )
    records = None if settings.formats == ("saved_model",) else records_of(runs[0], options.records)
    folder = export_runs(runs, out, settings, classifier, records, options.overwrite, warn)
    files = [str(folder / FORMATS[form].file) for form in settings.formats]
    result = {"folder": str(folder), "files": files, "model_card": str(folder / "model_card.md")}
    return result, f"{', '.join(Path(file).name for file in files)}, metadata.json and model_card.md in {folder}"


def serve(options: argparse.Namespace) -> Outcome:
    """Serves an export until it is told to stop."""
    from ustoolkit.serving.server import serve
    from ustoolkit.serving.settings import ServerSettings

    settings = ServerSettings(
        export=options.model,
        host=options.host,
        port=options.port,
        name=options.name,
        public_host=options.public_host,
        largest_upload_mb=options.largest_upload_mb,
        largest_megapixels=options.largest_megapixels,
        queue=options.queue,
        batch=options.batch,
        workers=options.workers,
    )
    requests = serve(settings, sys.stderr if options.json else None)
    return {"requests": requests}, f"stopped after {requests} requests"


def _as_name(folder: Path) -> str:
    """A folder's name with what an address may not hold replaced."""
    return re.sub(r"[^\w.-]", "-", folder.resolve().name, flags=re.ASCII)
