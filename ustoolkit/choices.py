"""Words that users choose from, both on the command line and in files. Nothing heavy is imported."""

from typing import Literal

DataSetFormat = Literal["phantom", "labelme", "via", "coco", "nnunet", "dicom", "video", "table", "mask-folder"]
AnnotationFormat = Literal["labelme", "via", "coco"]
ExportFormat = Literal["saved_model", "litert-float32", "litert-float16", "litert-int8", "onnx", "keras"]
Strategy = Literal["auto", "one", "mirrored", "multi-worker", "parameter-server"]
