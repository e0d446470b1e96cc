"""Images and masks described by a CSV table, one row an image (BUS-BRA's form)."""

import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.file_tree import locate
from ustoolkit.data.mask_values import Colours, colour_table
from ustoolkit.data.readers.csv_table import Row, Table, columns_of_damaged, known, read_table, tables_in
from ustoolkit.data.readers.entry import Entry, FileLoader, Refused
from ustoolkit.data.readers.image_names import ImageNames
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings
from ustoolkit.recipe.data_set import TableSettings

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
_BOX = ("bbox", "box", "lesion_box", "bounding_box")
_MASK = ("mask", "mask_path", "mask_file", "mask_name", "segmentation")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def matches(root: Path) -> bool:
    """Whether a CSV file in the folder has a column that names the images under it."""
    return _main_table(root, TableSettings(), ImageNames(root, pair_masks(root)[0])) is not None


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry a row whose image is there; columns without a meaning of their own become attributes.

    Other CSV files in the folder that name the same images (a file of folds, say) add their columns; one that cannot
    be read is left out with a warning. Where tables contradict each other, the one with most columns is right; another
    label of an image is kept in the attribute 'label_conflict'. A lesion's box becomes the attribute 'lesion_box', [x,
    y, width, height] as the table counts: BUS-BRA's counts x and y from 1, and its width and height are the distances
    between the first and the last pixel.

    Args:
        root: the folder with the table, the images and the masks.
        settings: `table` names columns; an empty name is found by its usual spellings. With `image`, or `mask`, the
            files are those of that column, relative to the table; else names tell.
    Raises:
        DataError: no such table or column. A row without image, a second row for one image, a name that fits several
            images, or a spacing or box that is none becomes an entry that is refused when loaded.
    """
    pairs, _ = pair_masks(root)
    names = ImageNames(root, pairs)
    found = _main_table(root, settings.table, names)
    if found is None:
        raise DataError(
            f"{root}: expected a CSV table with a column of image names, found none. "
            "Name it under [table] in the data set's description."
        )
    table, id_column = found
    rows = _Rows(
        root, settings, table, id_column, _joined_tables(root, table, id_column, names), colour_table(settings)
    )
    seen: set[Path] = set()
    for row in table.rows:
        name = row.values[id_column].strip()
        try:
            image = rows.image(row, names)
            if image in seen:
                raise DataError(f"{rows.place(row)}: '{name}' stands in the table twice. Take one row out.")
            seen.add(image)
        except DataError as problem:
            yield Entry(f"{name or 'row'} (row {row.number})", Refused(str(problem)))
            continue
        source_id = names.source_id(image)
        try:
            yield Entry(source_id, rows.loader(row, source_id, image, pairs.get(image, ())))
        except DataError as problem:
            yield Entry(source_id, Refused(str(problem)))


@dataclass(frozen=True)
class _Joined:
    """What another table says of an image."""

    table: Table
    label_column: str
    values: dict[str, str]


class _Rows:
    """The meaning of a table's columns."""

    def __init__(
        self,
        root: Path,
        settings: DataSetSettings,
        table: Table,
        id_column: str,
        joined: dict[Path, list[_Joined]],
        colours: Colours,
    ) -> None:
        wanted = settings.table
        self._root, self._settings, self._table, self._joined, self._colours = root, settings, table, joined, colours
        others = [said.table for several in joined.values() for said in several]

        def column(name: str, spellings: tuple[str, ...]) -> str:
            """Of the table itself, or where it has none, of one that adds to it."""
            tables = [table, *dict.fromkeys(others)]
            if name and any(name in other.columns for other in tables):
                return name
            return next((found for other in tables if (found := other.column(name, spellings))), "")

        self._patient = column(wanted.patient, _PATIENT)
        self._label = column(wanted.label, _LABEL)
        self._spacing = (
            column(wanted.spacing_row_mm, _ROW_SPACING),
            column(wanted.spacing_column_mm, _COLUMN_SPACING),
        )
        self._box = column(wanted.box, _BOX)
        if self._box and not wanted.box and not any(_box(row.values.get(self._box, "")) for row in table.rows):
            self._box = ""  # a column that is called so, and holds something else
        self._image = table.column(wanted.image)
        self._mask = table.column(wanted.mask) or self._found_masks(table.column("", _MASK))
        self._meant = {id_column, self._patient, self._label, *self._spacing, self._box, self._image, self._mask}
        self._id_column = id_column

    def _found_masks(self, column: str) -> str:
        """The column, where most of what it names are files; else ''."""
        named = [told for row in self._table.rows if (told := known(row.values.get(column, "")))]
        return column if named and sum(map(self._is_file, named)) >= len(named) / 2 else ""

    def _is_file(self, name: str) -> bool:
        try:
            return bool(locate(self._root, self._table.path.parent, name, ""))
        except DataError:
            return False

    def place(self, row: Row) -> str:
        return f"{self._table.path.name}, row {row.number}"

    def image(self, row: Row, names: ImageNames) -> Path:
        """The image of a row; raises DataError where there is not just one."""
        if self._image:
            return locate(self._root, self._table.path.parent, row.values[self._image].strip(), self.place(row))
        name = row.values[self._id_column].strip()
        found = names.find(name)
        if not found:
            raise DataError(
                f"{self.place(row)}: '{name}' has no image under {self._root}. Add the file, or take the row out."
            )
        if len(found) > 1:
            shown = ", ".join(path.relative_to(self._root).as_posix() for path in found[:3])
            raise DataError(
                f"{self.place(row)}: '{name}' fits several images ({shown}). Write the image's folder and suffix, too."
            )
        return found[0]

    def loader(self, row: Row, source_id: str, image: Path, masks: tuple[Path, ...]) -> FileLoader:
        """The sample of a row; raises DataError where its values are not what they should be."""
        values, added = self._everything(row, image)
        if self._mask:
            told = known(values[self._mask])
            masks = (locate(self._root, self._table.path.parent, told, self.place(row)),) if told else ()
        attributes: dict[str, Any] = {key: value for key, value in values.items() if key not in self._meant}
        box = known(values.get(self._box, ""))
        if box:
            attributes["lesion_box"] = _box(box)
            if attributes["lesion_box"] is None:
                raise DataError(
                    f"{self.place(row)}: expected a lesion's box as x, y, width and height in pixels, found '{box}'. "
                    "Correct the row."
                )
        label, conflict = self._labels(values, added)
        return FileLoader(
            source_id=source_id,
            image=image,
            masks=masks,
            num_classes=len(self._settings.classes),
            label=label,
            patient_id=known(values.get(self._patient, "")),
            spacing_mm=_spacing(values, self._spacing, self.place(row)),
            attributes=tuple((attributes | conflict).items()),
            colours=self._colours,
        )

    def _everything(self, row: Row, image: Path) -> tuple[dict[str, str], list[_Joined]]:
        """A row with the columns that other tables add; what it says itself goes before."""
        added = self._joined.get(image, [])
        values = dict(row.values)
        for said in added:
            for column, value in said.values.items():
                if not known(values.get(column, "")):
                    values[column] = value
        return values, added

    def _labels(self, values: dict[str, str], added: list[_Joined]) -> tuple[str, dict[str, str]]:
        """The label, and where another table says another one, the attribute that tells."""
        label = self._spelled(values.get(self._label, ""))
        for said in added:
            other = self._spelled(said.values.get(said.label_column, ""))
            is_label = said.label_column == self._label or other in self._settings.labels
            if label and other and is_label and other != label:
                return label, {"label_conflict": f"{said.table.path.name}: {other}"}
        return label, {}

    def _spelled(self, value: str) -> str:
        """A label as the description spells it, in whatever case the table does."""
        word = known(value).lower()
        return next((label for label in self._settings.labels if label.lower() == word), word)


def _main_table(root: Path, wanted: TableSettings, names: ImageNames) -> tuple[Table, str] | None:
    """The table with most columns among those that name the images, and the column that does."""
    if wanted.file:
        table = read_table(root / wanted.file)
        column = (table.column(wanted.source_id or wanted.image) or _id_column(table, names)) if table.rows else ""
        return (table, column) if column else None
    best: tuple[Table, str] | None = None
    damaged: list[tuple[Path, DataError]] = []
    for path in tables_in(root):
        try:
            table = read_table(path)
        except DataError as problem:
            damaged.append((path, problem))
            continue
        named = wanted.source_id or wanted.image
        column = (named if named in table.columns else "") if named else _id_column(table, names)
        if table.rows and column and (best is None or len(table.columns) > len(best[0].columns)):
            best = (table, column)
    for path, damage in damaged:
        columns = columns_of_damaged(path)
        if best is None or (best[1] in columns and len(columns) > len(best[0].columns)):
            raise damage  # it is the main table, which may hold patients
    return best


def _id_column(table: Table, names: ImageNames) -> str:
    """The column of which most values are names of images, or that names most images; '' where there is none."""
    if not table.rows:
        return ""
    named = {column: [names.find(row.values[column]) for row in table.rows] for column in table.columns}
    counts = {column: sum(map(bool, found)) for column, found in named.items()}
    column = max(counts, key=lambda name: counts[name])
    images = {image for found in named[column] if len(found) == 1 for image in found}
    return column if counts[column] >= len(table.rows) / 2 or len(images) > names.count / 2 else ""


def _joined_tables(root: Path, main: Table, id_column: str, names: ImageNames) -> dict[Path, list[_Joined]]:
    """What other tables say of each image that they name."""
    joined: dict[Path, list[_Joined]] = defaultdict(list)
    for path in tables_in(root):
        if path == main.path:
            continue
        try:
            table = read_table(path)
        except DataError as problem:
            warnings.warn(f"{problem} Until then the data set is read without it.", stacklevel=2)
            continue
        column = id_column if id_column in table.columns else _id_column(table, names)
        label_column = table.column("", _LABEL)
        for row in table.rows if column else ():
            images = names.find(row.values[column])
            if len(images) == 1:
                values = {name: value for name, value in row.values.items() if name != column}
                joined[images[0]].append(_Joined(table, label_column, values))
    return joined


def _box(text: str) -> list[float] | None:
    """x, y, width and height in whatever brackets and separators; None for what is no box."""
    numbers = [float(number) for number in _NUMBER.findall(text)]
    rest = _NUMBER.sub("", text).strip("[](){} \t")
    if len(numbers) != 4 or rest.strip(",; \t") or not all(map(math.isfinite, numbers)):
        return None
    return numbers if numbers[2] > 0 and numbers[3] > 0 else None


def _spacing(values: dict[str, str], columns: tuple[str, str], place: str) -> tuple[float, float] | None:
    texts = [values.get(column, "").strip() for column in columns]
    if not all(texts):
        return None
    try:
        spacing = (float(texts[0]), float(texts[1]))
    except ValueError:
        spacing = (math.nan, math.nan)
    if not all(0 < value < 100 for value in spacing):
        raise DataError(
            f"{place}: expected a pixel spacing in millimetres, above 0 and below 100, found {', '.join(texts)}. "
            "Correct the row."
        )
    return spacing
