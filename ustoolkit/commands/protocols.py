"""The command that shows what a leaking protocol does to scores: audit-protocol."""

import argparse

from ustoolkit.commands.console import Outcome, warn
from ustoolkit.commands.studies import run_asked


def audit_protocol(options: argparse.Namespace) -> Outcome:
    """Trains models under three protocols, or goes on with that."""
    from ustoolkit.data.records import Records
    from ustoolkit.data.split import read_splits
    from ustoolkit.studies.audit_protocol import audit_of

    records = Records(options.records)
    splits = read_splits(options.splits or options.records / "splits.json", records)
    study, notes = audit_of(records, splits, options.recipe, options.preview, options.set)
    for note in notes:
        warn(note)
    if study.pretraining and not options.pretraining_records:
        warn("without --pretraining-records the models that are pre-trained are left out.")
    return run_asked(study, options)
