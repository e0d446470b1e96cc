"""What clips, multi-frame files and their masks share: which frames to take, their names, whose a mask is."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ustoolkit.data.readers.pairing import pair_masks

MOST_FRAMES = 100_000  # of one file, an hour at 28 frames a second; beyond it the number is taken for damage
_WORD = r"(?:masks?|segmentations?|segs?|labels?|gts?|ground[_ -]?truths?|annotations?)"
_MASK_WORD = re.compile(rf"(?:^|[_ .-]){_WORD}(?:[_ -]?\d{{1,2}})?$|^{_WORD}[_ .-]", re.IGNORECASE)
_FOLDER_WORD = re.compile(
    rf"(?:^|[_ .-])(?:{_WORD}|images?|imgs?|scans?|frames?|clips?|videos?|dicoms?)$", re.IGNORECASE
)
_FRAME = re.compile(r"^(.*?)_+(\d{1,6})$")


@dataclass(frozen=True)
class FileMasks:
    """The mask files of one image or clip.

    Attributes:
        whole: of the file itself.
        frames: of its frames, by their number, which counts from 0.
    """

    whole: tuple[Path, ...] = ()
    frames: dict[int, tuple[Path, ...]] = field(default_factory=dict)


def chosen_frames(count: int, every: int, masks: FileMasks) -> list[int]:
    """Numbers of the frames to take: every k-th, the first included, and each one that somebody drew a mask for.

    Args:
        count: how many frames there are. A mask of a frame beyond them is kept, so that reading it says what is wrong.
        every: k.
        masks: of the file.
    """
    return sorted({*range(0, count, every), *masks.frames})


def frame_id(name: str, frame: int, count: int) -> str:
    """The id of one frame of a clip: 'scan#0010' for number 10. Sorted, ids are in the frames' order."""
    return f"{name}#{frame:0{max(4, len(str(count - 1)))}}"


def unique_names(paths: Sequence[Path], root: Path, stem: Callable[[str], str]) -> dict[Path, str]:
    """A name for each file: its stem where no other has it, else its path in the folder, with its suffix if need be.

    Args:
        paths: files under the folder.
        root: the folder.
        stem: a file's name without its suffix.
    """
    named: dict[Path, str] = {}
    left = list(paths)
    for spell in (
        lambda path: stem(path.name),
        lambda path: path.relative_to(root).with_name(stem(path.name)).as_posix(),
        lambda path: path.relative_to(root).as_posix(),
    ):
        spelled = {path: spell(path) for path in left}
        counts = Counter(spelled.values())
        named |= {path: name for path, name in spelled.items() if counts[name] == 1}
        left = [path for path in left if path not in named]
    return named


def folder_label(path: Path, root: Path, labels: Iterable[str]) -> str:
    """The image label that a folder between a file and the root is called by, '' for none."""
    known = {label.lower(): label for label in labels}
    return next((known[part] for part in map(str.lower, path.relative_to(root).parts[:-1]) if part in known), "")


def masks_of_files(
    paths: Iterable[Path], root: Path, stem: Callable[[str], str]
) -> tuple[dict[Path, FileMasks], list[Path]]:
    """Finds the masks of files that hold one image or many.

    `scan_mask.png` and `masks/scan.png` belong to the image in `scan.dcm`; `scan_0010_mask.png` and
    `masks/scan_0010.png` to frame 10 of the clip there. Both lie in one folder, or in folders of one name less words
    such as 'images' and 'masks'; a mask from elsewhere is taken where only one file has its name.

    Args:
        paths: the files.
        root: the data set's folder.
        stem: a file's name without its suffix.
    Returns:
        masks by file, and the masks of no file.
    """
    by_place: dict[tuple[tuple[str, ...], str], list[Path]] = defaultdict(list)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_place[_place(path, root), _key(stem(path.name))].append(path)
        by_name[_key(stem(path.name))].append(path)
    whole: dict[Path, list[Path]] = defaultdict(list)
    frames: dict[Path, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    orphans = []
    pairs, loose = pair_masks(root)
    for mask in sorted({*loose, *(mask for masks in pairs.values() for mask in masks)}):
        place = _place(mask, root)
        for key, frame in _spellings(mask.stem):
            owners = by_place.get((place, key)) or by_name.get(key, [])
            if len(owners) == 1:
                (whole[owners[0]] if frame is None else frames[owners[0]][frame]).append(mask)
                break
        else:
            orphans.append(mask)
    found = {
        path: FileMasks(
            tuple(whole.get(path, ())),
            {frame: tuple(masks) for frame, masks in frames.get(path, {}).items()},
        )
        for path in {*whole, *frames}
    }
    return found, orphans


def _spellings(stem: str) -> Iterator[tuple[str, int | None]]:
    """What a mask may be called after: a file, or a frame of one."""
    key = _key(_MASK_WORD.sub("", stem))
    yield key, None
    match = _FRAME.match(key)
    if match:
        yield match.group(1), int(match.group(2))


def _place(path: Path, root: Path) -> tuple[str, ...]:
    folders = (_FOLDER_WORD.sub("", folder).lower() for folder in path.relative_to(root).parts[:-1])
    return tuple(folder for folder in folders if folder)


def _key(stem: str) -> str:
    return re.sub(r"[_ .#-]+", "_", stem).strip("_").lower()
