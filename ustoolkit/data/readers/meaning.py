"""What an annotator's words mean: the class of the pixels, the label of the image, or both."""

import json
from collections.abc import Iterable

from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings
from ustoolkit.recipe.data_set import ShapeSettings

IGNORED = frozenset({"__ignore__", "_ignore_", "ignore"})  # labelme's own word, and its usual spellings
_MOST_CLASSES = 254  # beside the background, in a mask of bytes
_BACKGROUND = frozenset({"_background_", "__background__", "background"})


def meaning(label: str, settings: DataSetSettings, place: str) -> ShapeSettings | None:
    """What a shape's label stands for.

    Args:
        label: the annotator's word; '' where the shape has none.
        settings: `shapes` says; else a name of `classes` means pixels of that class, and one of `labels` the lesion's
            pixels and the image's label. Upper and lower case are one.
        place: for the message: 'scan_017.json, shape 3'.
    Returns:
        the meaning; None for a shape to leave out.
    Raises:
        DataError: the word means nothing here.
    """
    word = label.strip().lower()
    if word in IGNORED or word in {name.strip().lower() for name in settings.ignore}:
        return None
    for name, told in settings.shapes.items():
        if name.strip().lower() == word:
            return told
    if word in _BACKGROUND:
        return ShapeSettings(pixels=settings.classes[0])
    lesion = settings.classes[1] if len(settings.classes) == 2 else ""
    if not word and lesion:
        return ShapeSettings(pixels=lesion)
    image = next((name for name in settings.labels if name.lower() == word), "")
    pixels = next((name for name in settings.classes if name.lower() == word), "")
    if pixels or (image and lesion):
        return ShapeSettings(pixels=pixels or lesion, image=image)
    raise DataError(
        f"{place}: label '{label}' is not a class; expected one of "
        f"{', '.join((*settings.classes[1:], *settings.labels))}. Say what it means in the data set's description, "
        f"under [shapes.{json.dumps(label, ensure_ascii=False)}], or list it under ignore."
    )


def class_index(told: ShapeSettings, settings: DataSetSettings) -> int | None:
    """The class of a shape's pixels; None where they are not part of the mask."""
    return settings.classes.index(told.pixels) if told.pixels else None


def image_label(labels: Iterable[str]) -> str:
    """The image's label by the labels of its shapes: theirs where they agree, else ''."""
    found = {label for label in labels if label}
    return found.pop() if len(found) == 1 else ""


def with_classes(settings: DataSetSettings, names: Iterable[str]) -> DataSetSettings:
    """Settings with classes, for a data set whose description gives none.

    Args:
        settings: left as they are where they give classes or shapes.
        names: the annotators' words. Where none of them means anything by itself, each becomes a class, in order
            of the alphabet.
    Raises:
        DataError: there are more words than a mask has values.
    """
    if {"classes", "shapes"} & settings.model_fields_set:
        return settings
    words: dict[str, str] = {}
    for name in names:
        try:
            if meaning(name, settings, "") is not None and name.strip().lower() not in _BACKGROUND:
                return settings
        except DataError:
            words.setdefault(name.strip().lower(), name.strip())
    if not words:
        return settings
    if len(words) > _MOST_CLASSES:
        raise DataError(
            f"expected at most {_MOST_CLASSES} different labels of shapes, found {len(words)} ("
            f"{', '.join(sorted(word[:30] for word in words)[:5])}, …). Say which of them are classes, under "
            "classes and shapes in the data set's description."
        )
    return settings.model_copy(update={"classes": ("background", *sorted(words.values()))})
