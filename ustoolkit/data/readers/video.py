"""Video clips: AVI, MP4, MOV, MKV, WebM and WMV."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.file_tree import find_files
from ustoolkit.data.image_files import Picture, drop_equal_channels
from ustoolkit.data.mask_values import Colours, colour_table
from ustoolkit.data.readers import table
from ustoolkit.data.readers.clip_frames import (
    FileMasks,
    chosen_frames,
    folder_label,
    frame_id,
    masks_of_files,
    unique_names,
)
from ustoolkit.data.readers.entry import Entry, Refused, merge_masks
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.readers.video_file import SUFFIXES, count_frames, read_frame
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings


def matches(root: Path) -> bool:
    """Whether a video lies under the folder, and no image that has a mask or stands in a table."""
    return bool(_find_clips(root)) and not any(pair_masks(root)[0].values()) and not table.matches(root)


def read(root: Path, settings: DataSetSettings) -> Iterator[Entry]:
    """Yields an entry for every k-th frame of each clip, the first included, and for each frame that has a mask.

    A clip is a patient, unless the settings' expression tells another. Frames are counted from 0, over those that can
    be decoded; one that the file announces and that cannot be decoded is refused when loaded.

    Args:
        root: the folder, searched with its sub-folders; one called as an image label gives the clip its label.
        settings: `every_frame` is k.
    """
    clips = _find_clips(root)
    names = unique_names(clips, root, _stem)
    masks, orphans = masks_of_files(clips, root, _stem)
    for clip in clips:
        yield from _entries(clip, root, names[clip], masks.get(clip, FileMasks()), settings)
    for mask in orphans:
        name = mask.relative_to(root).as_posix()
        yield Entry(name, Refused(f"{mask}: there is no clip of this mask's name. Call it CLIP_0010.png for frame 10."))


@dataclass(frozen=True)
class VideoLoader:
    """Loads one frame of a clip.

    Attributes:
        source_id, label, patient_id: as in `Sample`.
        path: the clip.
        frame: counted from 0.
        masks: files.
        num_classes: how many classes there are.
        colours: the class of each colour, where masks are coloured.
    """

    source_id: str
    path: Path
    frame: int
    masks: tuple[Path, ...]
    num_classes: int
    colours: Colours
    label: str
    patient_id: str

    def __call__(self) -> Sample:
        """Decodes the frame.

        Raises:
            DataError: it cannot be decoded, or a mask does not fit it.
        """
        decoded, rate = read_frame(self.path, self.frame)
        pixels = drop_equal_channels(decoded)
        attributes: dict[str, Any] = {"frame": self.frame} | ({"frame_rate": rate} if rate else {})
        return Sample(
            source_id=self.source_id,
            image=pixels,
            mask=merge_masks(Picture(pixels), self.path.name, self.masks, self.num_classes, self.colours),
            label=self.label,
            patient_id=self.patient_id,
            filename=self.path.name,
            attributes=attributes,
        )


def _entries(clip: Path, root: Path, name: str, masks: FileMasks, settings: DataSetSettings) -> Iterator[Entry]:
    try:
        count = count_frames(clip)
    except DataError as problem:
        yield Entry(name, Refused(str(problem)))
        return
    if masks.whole:
        reason = "a mask of this clip does not tell its frame. Call it NAME_0010_mask.png for frame 10."
        yield Entry(f"{name}#mask", Refused(f"{masks.whole[0]}: {reason}"))
    for frame in chosen_frames(count, settings.every_frame, masks):
        loader = VideoLoader(
            source_id=frame_id(name, frame, count),
            path=clip,
            frame=frame,
            masks=masks.frames.get(frame, ()),
            num_classes=len(settings.classes),
            colours=colour_table(settings),
            label=folder_label(clip, root, settings.labels),
            patient_id=name,
        )
        yield Entry(loader.source_id, loader)


def _find_clips(root: Path) -> list[Path]:
    return find_files(root, SUFFIXES)


def _stem(name: str) -> str:
    return Path(name).stem
