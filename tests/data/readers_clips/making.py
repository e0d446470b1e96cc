"""Tiny DICOM files and clips, drawn by hand. `python -m tests.data.readers_clips.making` writes the shared ones."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from ustoolkit.data.image_files import encode_png

ROWS, COLUMNS = 16, 20
BITS = 6  # that tell the frames of a clip apart, drawn as stripes


def picture():
    """Four patches of colour on a ramp of greys: uint8 (16, 20, 3)."""
    pixels = np.repeat((np.arange(ROWS * COLUMNS) % 251).astype(np.uint8).reshape(ROWS, COLUMNS, 1), 3, axis=2)
    pixels[2:6, 2:8] = (220, 40, 30)
    pixels[2:6, 10:18] = (30, 200, 60)
    pixels[8:14, 2:8] = (40, 60, 210)
    pixels[8:14, 10:18] = (250, 240, 10)
    return pixels


def grey_picture():
    """uint8 (16, 20), of all greys to 250."""
    return (np.arange(ROWS * COLUMNS) * 7 % 251).astype(np.uint8).reshape(ROWS, COLUMNS)


def mask_of(rows=ROWS, columns=COLUMNS):
    """uint8 (rows, columns), a white block on black."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[rows // 4 : rows // 2, columns // 4 : columns // 2] = 255
    return mask


def data_set(pixels=None, **told):
    """A data set of native pixels, explicit little endian; `told` replaces or, being None, removes elements."""
    pixels = picture() if pixels is None else np.asarray(pixels)
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == (4 if colour else 3) else 0
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    header.Modality = "US"
    header.PatientID = "P-4711"
    size = pixels.shape[1:] if frames else pixels.shape
    header.Rows, header.Columns = size[:2]
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    if frames:
        header.NumberOfFrames = frames
    bits = 8 * pixels.dtype.itemsize
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW" if bits == 16 else "OB"
    for keyword, value in told.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    return header


def save(header, path):
    """Writes a data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def encapsulated(frames, syntax, photometric, **told):
    """A data set of encoded frames."""
    header = data_set(PhotometricInterpretation=photometric, **told)
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = encapsulate(frames)
    header["PixelData"].is_undefined_length = True
    if len(frames) > 1:
        header.NumberOfFrames = len(frames)
    return header


def region(box, delta=(0.02, 0.03), units=3, spatial_format=1, data_type=1):
    """An ultrasound region; `box` is x, y, width, height, `delta` in `units` across and down."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = spatial_format, data_type, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[0] + box[2] - 1, box[1] + box[3] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta
    return item


def jpeg(pixels, markers=("jfif",), **options):
    """JPEG, with JFIF's marker, Adobe's, both or none."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, subsampling=0, **options)
    content = stream.getvalue()
    if content[2:4] != b"\xff\xe0":
        return content
    length = 2 + int.from_bytes(content[4:6])
    jfif, rest = content[2 : 2 + length], content[2 + length :]
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"  # 1: YCbCr
    return content[:2] + b"".join({"jfif": jfif, "adobe": adobe}[name] for name in markers) + rest


def jpeg_2000(pixels, transform):
    """A JPEG 2000 code stream without loss, with or without its component transform."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", irreversible=False, mct=int(transform), no_jp2=True)
    return stream.getvalue()


def numbered_frame(number, side=32):
    """uint8 (side, side, 3): the number's bits as stripes, so that a frame tells which it is."""
    pixels = np.full((side, side, 3), 20, np.uint8)
    for bit in range(BITS):
        pixels[:, bit * side // BITS : (bit + 1) * side // BITS] = 230 if number >> bit & 1 else 20
    return pixels


def number_of(pixels):
    """The number that `numbered_frame` drew."""
    side = pixels.shape[1]
    middles = [pixels[:, (2 * bit + 1) * side // (2 * BITS)].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, level in enumerate(middles) if level > 125)


def make_clip(path, frames=12, codec="MJPG", colour=None):
    """A clip of numbered frames, 25 a second; `colour` replaces each frame's pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 25, (32, 32))
    for number in range(frames):
        pixels = numbered_frame(number) if colour is None else np.full((32, 32, 3), colour, np.uint8)
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()
    return path


def main():
    """Writes the shared fixtures."""
    files = Path(__file__).parents[2] / "files"
    save(data_set(SequenceOfUltrasoundRegions=[region((1, 2, 18, 12))]), files / "dicom" / "still.dcm")
    clip = np.stack([np.roll(grey_picture(), shift, axis=1) for shift in range(11)])
    save(data_set(clip, SOPInstanceUID="1.2.826.0.1.3680043.8.498.2", PatientID="P-12"), files / "dicom" / "clip.dcm")
    (files / "dicom" / "still_mask.png").write_bytes(encode_png(mask_of()))
    (files / "dicom" / "clip_0010_mask.png").write_bytes(encode_png(mask_of()))
    make_clip(files / "video" / "sweep.avi", codec="FFV1")
    make_clip(files / "video" / "sweep2.mp4", frames=3, codec="mp4v")
    (files / "video" / "masks" / "sweep_0010.png").write_bytes(encode_png(mask_of(32, 32)))


if __name__ == "__main__":
    main()
