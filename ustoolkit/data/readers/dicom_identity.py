"""Who a DICOM file is of, hidden: a patient's hash in place of a name, and names of files that tell nobody's."""

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ustoolkit.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NAMES = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ResponsiblePerson",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord",
)
_NUMBERS = (
    "PatientID",
    "OtherPatientIDs",
    "AccessionNumber",
    "InstitutionName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
)
IDENTIFYING = (*_NAMES, *_NUMBERS, "PatientBirthDate", "IssuerOfPatientID")  # the elements that are looked at here
_SHORT = 4  # a number of fewer signs is looked for as a word of its own, since '12' lies in many others


class Identities:
    """Names and numbers that must not be seen, and whether a text holds one."""

    def __init__(self, names: Iterable[str], numbers: Iterable[str]) -> None:
        """Takes names of three letters or more (two in scripts without Latin letters), and numbers of any length."""
        words = {word for name in names for word in re.split(r"[\W\d_]+", name)}
        spelled = {spelling for word in words if _is_name(word) for spelling in _spellings(word)}
        plain = {_plain(number) for number in numbers} - {""}
        self._parts = frozenset(spelled | {number for number in plain if len(number) >= _SHORT})
        self._words = frozenset(number.lstrip("0") or "0" for number in plain if len(number) < _SHORT)

    def held_by(self, text: str) -> bool:
        """Whether a text holds a name, in any case and without its accents, or a number, however it is punctuated."""
        words = re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFKC", text).casefold())
        if self._words & {word.lstrip("0") or "0" for word in words}:
            return True
        return any(part in spelling for spelling in _spellings(text) for part in self._parts)

    @classmethod
    def union(cls, several: Iterable["Identities"]) -> "Identities":
        """Those of all."""
        everybody, several = cls((), ()), list(several)
        everybody._parts = frozenset().union(*(each._parts for each in several))
        everybody._words = frozenset().union(*(each._words for each in several))
        return everybody


def identities_of(header: "Dataset") -> Identities:
    """All that a file says of who was examined, by whom, and where."""
    # Of a name its prefixes and suffixes ('Dr. med.') tell nobody's; the institution counts as a whole.
    names = [part for keyword in _NAMES for text in _texts(header.get(keyword)) for part in _name_parts(text)]
    numbers = [text for keyword in _NUMBERS for text in _texts(header.get(keyword))]
    born = "".join(_texts(header.get("PatientBirthDate")))
    if len(born) == 8:
        numbers += [born, born[6:] + born[4:6] + born[:4], born[4:] + born[:4]]
    return Identities(names, numbers)


def patient_key(header: "Dataset") -> str:
    """What makes two files one patient's: the patient's number, else name and birth, else the study.

    Who gave the number does not count: it is often missing, and two patients taken for one never leak.
    """
    for kind, keywords in (
        ("number", ("PatientID",)),
        ("name", ("PatientName", "PatientBirthDate")),
        ("study", ("StudyInstanceUID",)),
        ("image", ("SOPInstanceUID",)),
    ):
        told = [" ".join(_texts(header.get(keyword))).strip(" ^=").casefold() for keyword in keywords]
        if told[0]:
            return json.dumps([kind, *told])
    return ""


def read_salt(file: str, uids: Iterable[str]) -> bytes:
    """The secret that identities are hashed with.

    Args:
        file: a text file that holds it; '' for a secret of the data set's own: the hash of the UIDs of all its
            images, which nobody can guess who does not have the set. It changes when an image is added.
        uids: of all images.
    Raises:
        DataError: the file is missing, or empty.
    """
    if not file:
        return hashlib.sha256("\n".join(sorted(uids)).encode(errors="backslashreplace")).digest()
    remedy = "Put a long secret into it, and keep it apart from the records."
    try:
        secret = Path(file).read_bytes().strip()
    except OSError as problem:
        raise DataError(f"{file}: the salt file cannot be read ({problem.strerror}). {remedy}") from None
    if not secret:
        raise DataError(f"{file}: expected a secret to hash patients with, found an empty file. {remedy}")
    return secret


def pseudonym(salt: bytes, kind: str, text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text, and cannot be undone without the salt."""
    return hmac.new(salt, f"{kind}\0{text}".encode(errors="backslashreplace"), hashlib.sha256).hexdigest()[:16]


def hidden_name(name: str, identities: Identities, salt: bytes) -> str:
    """A file's name or id, or a hash of it where it holds an identity."""
    return f"dicom-{pseudonym(salt, 'file', name)}" if identities.held_by(name) else name


def without_paths(message: str, paths: Iterable[Path], shown: str) -> str:
    """A message that names no path, for files whose paths hold an identity."""
    for path in paths:
        message = message.replace(str(path), shown).replace(path.name, shown)
    return message


def shown_place(path: Path, source_id: str, identities: Identities) -> str:
    """What messages call a file: its path, or its id where the path holds an identity."""
    return f"{source_id} (the file's path is not shown)" if identities.held_by(str(path)) else str(path)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    several = not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "components")
    return [str(item).strip() for item in value] if several else [str(value).strip()]


def _name_parts(name: str) -> list[str]:
    return [part for spelled in name.split("=") for part in spelled.split("^")[:3]]


def _is_name(word: str) -> bool:
    return len(word) >= (3 if word.isascii() else 2)


def _spellings(text: str) -> set[str]:
    """A text in small letters and digits alone, without accents, and with German ones written out."""
    small = unicodedata.normalize("NFKC", text).casefold()
    written_out = small.translate({ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ø"): "oe", ord("å"): "aa"})
    return {spelled for spelled in (_plain(small), _plain(written_out)) if spelled}


def _plain(text: str) -> str:
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in split if sign.isalnum())
