"""Which masks belong to which image, by the usual ways of naming them."""

import re
from collections.abc import Iterator
from pathlib import Path

from ustoolkit.data.image_files import find_images

_WORD = r"\(?(?:masks?|segmentations?|segs?|labels?|gts?|ground[_ -]?truths?|annotations?)\)?"
_MASK_WORD = re.compile(rf"(?:^|[_ .-]){_WORD}(?=$|[_ .-])", re.IGNORECASE)
_NUMBERED_MASK = re.compile(rf"^(.+?)[_ .-]{_WORD}[_ -]?\d{{1,2}}$", re.IGNORECASE)
_IMAGE_WORD = re.compile(r"(?:^|[_ .-])\(?(?:images?|imgs?|scans?|frames?|originals?)\)?(?=$|[_ .-])", re.IGNORECASE)
_FIRST_WORD = re.compile(r"[A-Za-z]+[_ .-]+")
_FOLDER_WORD = re.compile(rf"(?:^|_)(?:{_WORD}|images?|imgs?|scans?)(?=$|_)", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf"^(?:.*[_ .-])?{_WORD}$", re.IGNORECASE)


def pair_masks(root: Path) -> tuple[dict[Path, tuple[Path, ...]], list[Path]]:
    """Finds the images under a folder and the masks of each.

    A file is a mask where its own name, or a folder between it and the root, says so. It belongs to the image whose
    stem is left once such words are taken out (`a.png` with `masks/a.png`, `a_mask.png`, `mask_a.png`; `a_mask_1.png`
    beside `a_mask.png`), or once a first word that all images share is taken out too (`bus_12.png`, `mask_12.png`), or
    a word for 'image' (`a_image.png`, `a_mask.png`). Both lie in one folder, or in folders of one name less words such
    as 'images' and 'masks'. A mask from elsewhere is taken only where it fits a single image, which has no nearer mask,
    and no image lies where the mask does.

    Args:
        root: the data set's folder.
    Returns:
        the masks of each image, none or several; and the masks that belong to no image.
    """
    files = find_images(root)
    masks = [path for path in files if _is_mask(path, root)]
    chosen = set(masks)
    pairs: dict[Path, list[Path]] = {path: [] for path in files if path not in chosen}
    by_key = _by_key(list(pairs))
    images_in: dict[tuple[str, ...], list[Path]] = {}
    for path in pairs:
        images_in.setdefault(_place(path, root), []).append(path)
    owned = {_key(_MASK_WORD.sub("", path.stem)) for path in masks if not _NUMBERED_MASK.match(path.stem)}
    strangers: list[tuple[Path, list[Path]]] = []
    orphans = []
    for mask in masks:
        neighbours = images_in.get(_place(mask, root), [])
        candidates = next((by_key[key] for key in _mask_keys(mask.stem, owned) if key in by_key), [])
        if not _key(_MASK_WORD.sub("", mask.stem)) and len(neighbours) == 1:
            pairs[neighbours[0]].append(mask)  # case1/image.png with case1/mask.png
        elif near := [path for path in candidates if path in set(neighbours)]:
            pairs[_best_spelled(mask, near)].append(mask)
        elif len(candidates) == 1 and not neighbours:
            strangers.append((mask, candidates))
        else:
            orphans.append(mask)
    for mask, (image,) in strangers:  # a mask folder under quite another name, where no nearer mask is known
        if pairs[image]:
            orphans.append(mask)
        else:
            pairs[image].append(mask)
    return {image: tuple(found) for image, found in pairs.items()}, orphans


def _by_key(images: list[Path]) -> dict[str, list[Path]]:
    """Images by the name that a mask may call them: their stem, or what is left of it once words are taken out."""
    by_key: dict[str, dict[Path, None]] = {}
    stems = [path.stem for path in images]
    for names in (stems, _less_first_word(stems), bare := [_less_image_word(stem) for stem in stems]):
        _add_names(by_key, names, images)
    _add_names(by_key, _less_first_word(bare), images)
    return {key: list(paths) for key, paths in by_key.items()}


def _add_names(by_key: dict[str, dict[Path, None]], names: list[str], images: list[Path]) -> None:
    for name, path in zip(names, images, strict=True):
        by_key.setdefault(_key(name), {})[path] = None


def _less_image_word(stem: str) -> str:
    return _IMAGE_WORD.sub("", stem).strip("_ .-") or stem


def _place(path: Path, root: Path) -> tuple[str, ...]:
    """The folders of a file, less words for 'images' and 'masks': equal for images and masks that belong together."""
    folders = (_FOLDER_WORD.sub("", _key(folder)).strip("_") for folder in _folders(path, root))
    return tuple(folder for folder in folders if folder)


def _folders(path: Path, root: Path) -> list[str]:
    """The folders of a file below the root, 'TrainMasks' spelled 'Train_Masks'."""
    return [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", folder) for folder in path.relative_to(root).parts[:-1]]


def _is_mask(path: Path, root: Path) -> bool:
    named = _MASK_WORD.search(path.stem) or _NUMBERED_MASK.match(path.stem)
    return bool(named) or any(_MASK_FOLDER.match(folder) for folder in _folders(path, root))


def _mask_keys(stem: str, owned: set[str]) -> Iterator[str]:
    """What a mask may call its image: 'a_mask_1' is that of 'a_1', or where 'a_1_mask' is that, another of 'a'."""
    plain, numbered = _key(_MASK_WORD.sub("", stem)), _NUMBERED_MASK.match(stem)
    if not numbered:
        yield plain
    elif plain in owned:
        yield from (_key(numbered.group(1)), plain)
    else:
        yield from (plain, _key(numbered.group(1)))


def _key(stem: str) -> str:
    return re.sub(r"[_ .-]+", "_", stem).strip("_").lower()


def _less_first_word(stems: list[str]) -> list[str]:
    """The stems without a first word that all share."""
    words = {match.group() if (match := _FIRST_WORD.match(stem)) else "" for stem in stems}
    word = words.pop() if len(stems) > 1 and len(words) == 1 else ""
    return [stem.removeprefix(word) for stem in stems]


def _best_spelled(mask: Path, images: list[Path]) -> Path:
    """Of several images of one name, the one that the mask spells to the letter: 'a-1' and 'A_1' are one name too."""

    def likeness(path: Path) -> tuple[bool, bool, bool]:
        spelled = _MASK_WORD.sub("", mask.stem) == path.stem
        holds = mask.stem.startswith(path.stem) or mask.stem.endswith(path.stem)
        return spelled, holds, _MASK_WORD.sub("*", mask.stem) == _IMAGE_WORD.sub("*", path.stem)

    return max(images, key=likeness)
