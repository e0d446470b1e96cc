"""MONAI's side of the input pipeline: CacheDataset and DataLoader with its dictionary transforms, as its tutorials do.

Reading, the channel axis and resizing are cached as plain tensors, without the metadata that MONAI would else carry
along; the random transforms run in a worker process a core. The ranges are those of the recipe.
"""

import json
import sys
from collections.abc import Callable
from itertools import cycle, islice
from math import radians
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    RandAffined,
    RandFlipd,
    RandScaleIntensityFixedMeand,
    RandShiftIntensityd,
    RepeatChanneld,
    Resized,
    ScaleIntensityRanged,
)
from side_protocol import serve
from turns import cores

from ustoolkit.recipe import Recipe, load_recipe


class Monai:
    """Tasks are 'RECIPE': a pass through all images, cached in memory."""

    def __init__(self, folder: Path) -> None:
        drawn = sorted((folder / "images").glob("*.png"))
        images = json.loads((folder / "records" / "manifest.json").read_text())["counts"]["images"]
        self._files = [
            {"image": str(path), "mask": str(folder / "masks" / path.name)} for path in islice(cycle(drawn), images)
        ]
        torch.set_num_threads(cores())

    def hello(self) -> dict[str, Any]:
        """Versions."""
        return {"monai": monai.__version__, "torch": torch.__version__}

    def describe(self, subject: str) -> dict[str, Any]:
        """Shape and mean of what comes out, so that the sides can be compared."""
        batch = next(iter(self._loader(load_recipe(subject))))
        images = batch["image"]
        return {
            "shape": list(images.permute(0, 2, 3, 1).shape),
            "mean": float(images.float().mean()),
            "lesion": float((batch["mask"] > 0).float().mean()),
        }

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`."""
        loader = self._loader(load_recipe(task))
        return lambda: sum(len(batch["image"]) for batch in loader)

    def _loader(self, recipe: Recipe) -> DataLoader:
        dataset = CacheDataset(self._files, _transforms(recipe), cache_rate=1.0, progress=False, num_workers=cores())
        return DataLoader(
            dataset,
            batch_size=recipe.training.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=cores(),
            persistent_workers=True,
        )


def _transforms(recipe: Recipe) -> Compose:
    both = ["image", "mask"]
    size, settings = recipe.data.image_size, recipe.augmentation
    steps: list[Any] = [
        LoadImaged(both, image_only=True, reverse_indexing=False),
        EnsureChannelFirstd(both),
        Resized(both, size, mode=("bilinear", "nearest")),
        ScaleIntensityRanged("mask", 0, 255, 0, 1),
        *([RepeatChanneld("image", 3)] if recipe.data.channels == 3 else []),
        EnsureTyped(both, dtype=[torch.float32, torch.uint8], track_meta=False),
    ]
    if settings.horizontal_flip:
        steps.append(RandFlipd(both, settings.horizontal_flip, spatial_axis=1))
    if settings.vertical_flip:
        steps.append(RandFlipd(both, settings.vertical_flip, spatial_axis=0))
    steps.append(
        RandAffined(
            both,
            prob=settings.probability,
            rotate_range=radians(settings.rotation_degrees),
            translate_range=[settings.shift * side for side in size],
            shear_range=np.tan(radians(settings.shear_degrees)),
            scale_range=settings.zoom,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
            cache_grid=True,
            spatial_size=size,
        )
    )
    if settings.contrast:
        steps.append(RandScaleIntensityFixedMeand("image", prob=1.0, factors=settings.contrast))
    if settings.channel_shift:
        steps.append(RandShiftIntensityd("image", prob=1.0, offsets=255 * settings.channel_shift))
    return Compose(steps)


if __name__ == "__main__":
    serve(Monai(Path(sys.argv[1])))
