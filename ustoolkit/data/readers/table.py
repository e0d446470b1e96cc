"""Images and masks described by a CSV table, one row an image (BUS-BRA's form)."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ustoolkit.data.readers.entry import Entry, FileLoader, Refused
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_PATIENT = ("patient", "patient_id", "patientid", "case", "case_id", "subject", "subject_id")
_LABEL = ("label", "class", "pathology", "diagnosis", "type")
_ROW_SPACING = ("spacing_row_mm", "pixel_spacing_row_mm", "spacing_y_mm", "spacing_mm", "pixel_spacing_mm")
_COLUMN_SPACING = (
    "spacing_column_mm",
    "pixel_spacing_column_mm",
    "spacing_x_mm",
    "spacing_mm",
    "pixel_spacing_mm",
)


def matches(root: Path) -> bool:
    """Whether a CSV file in the folder has a column that names the images under it."""
    return _main_table(root, "", "") is not None


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry a row whose image is there; columns without a meaning of their own become attributes.

    Other CSV files in the folder that name the same images (a file of folds, say) add their columns.

    Args:
        root: the folder with the table, the images and the masks.
        settings: `table` names columns; an empty name is found by its usual spellings.
    Raises:
        DataError: no such table or column. A row without image, a second row for one image, or a spacing that is
            no length becomes an entry that is refused when loaded.
    """
    wanted = settings.table
    found = _main_table(root, wanted.file, wanted.source_id)
    if found is None:
        raise DataError(
            f"{root}: expected a CSV table with a column of image names, found none. "
            "Name it under [table] in the data set's description."
        )
    table, id_column, rows = found
    patient_column = _column(rows, wanted.patient, _PATIENT, table)
    label_column = _column(rows, wanted.label, _LABEL, table)
    spacing_columns = (
        _column(rows, wanted.spacing_row_mm, _ROW_SPACING, table),
        _column(rows, wanted.spacing_column_mm, _COLUMN_SPACING, table),
    )
    meant = {id_column, patient_column, label_column, *spacing_columns}
    extra = _joined_tables(root, table, id_column)
    pairs, _ = pair_masks(root)
    images = _by_name(pairs)
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        name = row[id_column].strip()
        image = images.get(name)
        if image is None or image.stem in seen:
            problem = (
                "stands in the table twice. Take one row out"
                if image
                else (f"has no image under {root}. Add the file, or take the row out")
            )
            source_id = f"{name or 'row'} (row {number})"
            yield Entry(source_id, Refused(f"{table.name}, row {number}: '{name}' {problem}."))
            continue
        seen.add(image.stem)
        try:
            spacing_mm = _spacing(row, spacing_columns)
        except ValueError as problem:
            yield Entry(image.stem, Refused(f"{table.name}, row {number}: {problem} Correct the row."))
            continue
        everything = {**row, **extra.get(name, {})}
        attributes = {key: value for key, value in everything.items() if key not in meant}
        loader = FileLoader(
            source_id=image.stem,
            image=image,
            masks=pairs[image],
            num_classes=len(settings.classes),
            label=row.get(label_column, "").strip().lower(),
            patient_id=row.get(patient_column, "").strip(),
            spacing_mm=spacing_mm,
            attributes=tuple(attributes.items()),
        )
        yield Entry(image.stem, loader)


def _main_table(root: Path, file: str, id_column: str) -> tuple[Path, str, list[dict[str, str]]] | None:
    """The table with most columns among those that name the images."""
    tables = [root / file] if file else sorted(root.glob("*.csv"))
    if not tables:
        return None
    images = _by_name(pair_masks(root)[0])
    best = None
    for table in tables:
        rows = _read_rows(table)
        if not rows:
            continue
        if id_column and id_column not in rows[0]:
            if file:
                raise DataError(f"{table}: no column '{id_column}'; there are {', '.join(rows[0])}.")
            continue
        column = id_column or _id_column(rows, images)
        if column and (best is None or len(rows[0]) > len(best[2][0])):
            best = (table, column, rows)
    return best


def _id_column(rows: list[dict[str, str]], images: dict[str, Path]) -> str:
    """The column of which most values are names of images; '' where none has at least half."""
    shares = {column: sum(row[column].strip() in images for row in rows) / len(rows) for column in rows[0]}
    column = max(shares, key=lambda name: shares[name])
    return column if shares[column] >= 0.5 else ""


def _joined_tables(root: Path, main: Path, id_column: str) -> dict[str, dict[str, str]]:
    extra: dict[str, dict[str, str]] = {}
    for table in sorted(root.glob("*.csv")):
        rows = _read_rows(table) if table != main else []
        if rows and id_column in rows[0]:
            for row in rows:
                extra.setdefault(row[id_column].strip(), {}).update(row)
    return extra


def _by_name(pairs: dict[Path, tuple[Path, ...]]) -> dict[str, Path]:
    """Images by file name and by stem."""
    return {name: path for path in pairs for name in (path.name, path.stem)}


def _read_rows(table: Path) -> list[dict[str, str]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{table}: no such table. Check [table] file in the data set's description.") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{table}: expected a CSV table in UTF-8 ({problem}). Save it again as UTF-8.") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    try:
        # A column without a name (the row numbers that pandas writes) is no column that was not found.
        reader.fieldnames = [name or "unnamed" for name in reader.fieldnames or ()]
        rows = list(reader)
    except csv.Error as problem:
        raise DataError(f"{table}: expected a CSV table ({problem}). Save it again as CSV.") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            columns = len(reader.fieldnames)
            raise DataError(
                f"{table}, row {number}: expected {columns} columns as in the header, found another number. "
                "Quote values that hold the separator."
            )
    return rows


def _column(rows: list[dict[str, str]], name: str, spellings: tuple[str, ...], table: Path) -> str:
    header = list(rows[0])
    if name:
        if name not in header:
            raise DataError(f"{table}: no column '{name}'; there are {', '.join(header)}.")
        return name
    by_spelling = {column.strip().lower().replace(" ", "_"): column for column in header}
    return next((by_spelling[spelling] for spelling in spellings if spelling in by_spelling), "")


def _spacing(row: dict[str, str], columns: tuple[str, str]) -> tuple[float, float] | None:
    texts = [row.get(column, "").strip() for column in columns]
    if not all(texts):
        return None
    wrong = ValueError(f"expected a pixel spacing in millimetres, above 0 and below 100, found {', '.join(texts)}.")
    try:
        spacing = (float(texts[0]), float(texts[1]))
    except ValueError:
        raise wrong from None
    if not all(0 < value < 100 for value in spacing):
        raise wrong
    return spacing
