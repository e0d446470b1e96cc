"""Video files: counted without decoding, and decoded frame by frame in order."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ustoolkit.data.image_files import LARGEST_PIXELS
from ustoolkit.data.readers.annotation_files import first_bytes
from ustoolkit.data.readers.clip_frames import MOST_FRAMES
from ustoolkit.errors import DataError

if TYPE_CHECKING:
    import cv2

SUFFIXES = frozenset({".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv"})
_REMEDY = "Export the clip again, or leave it out."
_MP4_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


def count_frames(path: Path) -> int:
    """The number of frames in a video, by what its container holds: its header may be wrong, and nothing is decoded.

    Raises:
        DataError: no video, one of another kind than its content may be, or one beyond a limit.
    """
    import cv2

    capture = _open(path, raw=True)
    try:
        count = 0
        while count <= MOST_FRAMES and capture.grab():
            count += 1
    except cv2.error:
        count = 0
    finally:
        capture.release()
    if not 1 <= count <= MOST_FRAMES:
        found = f"more than {MOST_FRAMES:,}. Divide the clip." if count else f"none. {_REMEDY}"
        raise DataError(f"{path}: expected 1 to {MOST_FRAMES:,} frames, found {found}")
    return count


class FrameReader:
    """Decodes one video from its first frame on.

    Seeking in a video lands beside the frame asked for as often as not, since times are rounded and decoders start at
    key frames. So a later frame is reached by decoding those before it, and an earlier one by opening the file anew:
    reading frames in order, as converting does, decodes each once.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            DataError: as `count_frames`.
        """
        self.path = path
        self._capture = _open(path)
        self._next = 0

    @property
    def frame_rate(self) -> float:
        """Frames a second, 0 where the file does not say."""
        import cv2

        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return round(rate, 3) if 0 < rate < 10_000 else 0.0

    def read(self, frame: int) -> np.ndarray:
        """Decodes a frame.

        Args:
            frame: counted from 0, over the frames that can be decoded.
        Returns:
            uint8 RGB (height, width, 3), turned as the file says.
        Raises:
            DataError: the video ends before it.
        """
        import cv2

        if frame < self._next:
            self.close()
            self._capture, self._next = _open(self.path), 0
        try:
            while self._next < frame and self._capture.grab():
                self._next += 1
            decoded, pixels = self._capture.read() if self._next == frame else (False, None)
        except cv2.error:
            decoded, pixels = False, None
        if not decoded or pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint8:
            raise DataError(
                f"{self.path}, frame {frame}: the video ends before, or is damaged there; {self._next} frames were "
                f"decoded. {_REMEDY}"
            )
        self._next += 1
        return np.ascontiguousarray(pixels[..., ::-1])

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()


_open_reader: dict[tuple[Path, int, int], FrameReader] = {}


def read_frame(path: Path, frame: int) -> tuple[np.ndarray, float]:
    """A frame of a video and the frames a second; the video read last stays open, for the frame after.

    Args:
        path: the file.
        frame: counted from 0.
    Returns:
        uint8 RGB (height, width, 3), and the rate, 0 where unknown.
    Raises:
        DataError: see `count_frames` and `FrameReader.read`.
    """
    try:
        state = path.stat()
    except OSError as problem:
        raise DataError(f"{path}: the file cannot be read ({problem.strerror}). Check the path.") from None
    key = (path, state.st_mtime_ns, state.st_size)
    if key not in _open_reader:
        for reader in _open_reader.values():
            reader.close()
        _open_reader.clear()
        _open_reader[key] = FrameReader(path)
    reader = _open_reader[key]
    return reader.read(frame), reader.frame_rate


def _open(path: Path, raw: bool = False) -> "cv2.VideoCapture":
    if not _is_container(first_bytes(path, 16)):
        # FFmpeg would also follow playlists and scripts, which lead to other files.
        raise DataError(f"{path}: expected a video (AVI, MP4, MOV, MKV or WMV), found something else. {_REMEDY}")
    cv2 = _quiet_cv2()
    options: list[Any] = [
        *(cv2.CAP_PROP_N_THREADS, 1),
        *((cv2.CAP_PROP_FORMAT, -1) if raw else (cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_NONE)),
    ]
    try:
        capture = cv2.VideoCapture(os.fspath(path.absolute()), cv2.CAP_FFMPEG, options)
        opened = capture.isOpened()
    except (cv2.error, UnicodeEncodeError):
        opened = False
    if not opened:
        raise DataError(f"{path}: the video is damaged, cut short, or of a kind that cannot be decoded. {_REMEDY}")
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width <= 0 or height <= 0 or width * height > LARGEST_PIXELS:
        capture.release()
        raise DataError(f"{path}: expected 1 to {LARGEST_PIXELS:,} pixels a frame, found {width} × {height}. {_REMEDY}")
    return capture


def _quiet_cv2() -> Any:
    """OpenCV, which says nothing on the terminal of damaged files: FFmpeg does so in its own words, not naming any."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def _is_container(start: bytes) -> bool:
    return (
        (start[:4] == b"RIFF" and start[8:12] == b"AVI ")
        or start[4:8] in _MP4_ATOMS
        or start[:4] in (b"\x1aE\xdf\xa3", b"0&\xb2u")  # Matroska, ASF
    )
