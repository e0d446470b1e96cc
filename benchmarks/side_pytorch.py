"""The other side: the same work in plain PyTorch, written as most people write it.

Pipeline: a map-style Dataset that opens PNG files with Pillow (or keeps the resized images in memory), resizes with
Pillow, changes image and mask by imgaug (or affine_grid and grid_sample) and a DataLoader with a worker process a
core, four at most, that stay alive between epochs.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from side_protocol import flags_and_settings, serve
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ustoolkit.data.imgaug_quick import iaa  # lends imgaug what it wants of NumPy
from ustoolkit.recipe import Recipe, load_recipe

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convolution(inputs: int, outputs: int, group_size: int) -> nn.Module:
    """3 × 3 with bias; with a group size within groups of so many channels, then 1 × 1."""
    if not group_size:
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    size = inputs if inputs <= 3 and group_size != 1 else min(group_size, inputs)
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs // size), nn.Conv2d(inputs, outputs, 1))


def double_convolution(inputs: int, middle: int, outputs: int, group_sizes: tuple[int, int]) -> nn.Sequential:
    """Two 3 × 3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before, after, size in ((inputs, middle, group_sizes[0]), (middle, outputs, group_sizes[1])):
        layers += [convolution(before, after, size), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The network that `ustoolkit.models.unet` builds.

    Args:
        widths: filters of the encoder's levels.
        channels: of the image.
        dropout: share of values set to 0 after the deepest level.
        group_sizes: of the first and second convolution of a pair, 0 for a plain one.
    """

    def __init__(
        self, widths: tuple[int, ...], channels: int, dropout: float, group_sizes: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.encoder.append(double_convolution(channels, width, width, group_sizes))
            channels = width
        for level in reversed(range(len(widths) - 1)):
            joined, outputs = channels + widths[level], widths[max(level - 1, 0)]
            self.decoder.append(double_convolution(joined, joined // 2, outputs, group_sizes))
            channels = outputs
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(channels, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width), 0 to 255, to logits (batch, 1, height, width)."""
        current, skips = image / 255, []
        for level, block in enumerate(self.encoder):
            if level:
                skips.append(current)
                current = F.max_pool2d(current, 2)
            current = block(current)
        current = self.dropout(current)
        for block in self.decoder:
            current = F.interpolate(current, scale_factor=2, mode="bilinear", align_corners=False)
            current = block(torch.cat([skips.pop(), current], 1))
        return self.logits(current)


def dice_and_cross_entropy(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of recipe 'fast'."""
    probability = torch.sigmoid(logits)
    overlap = (probability * mask).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return dice.mean() + F.binary_cross_entropy_with_logits(logits, mask)


class Phantoms(Dataset):
    """Images and masks of a folder.

    Args:
        folder: what `write_phantoms` made.
        recipe: size and augmentation.
        cached: whether resized images are kept in memory, from the start.
        tool: 'imgaug' or 'grid_sample'.
    """

    def __init__(self, folder: Path, recipe: Recipe, cached: bool, tool: str) -> None:
        self._paths = sorted((folder / "images").glob("*.png"))
        self._size = recipe.data.image_size
        self._settings = recipe.augmentation
        self._change = self._by_imgaug if tool == "imgaug" else self._by_grid_sample
        self._sequence = _imgaug_sequence(recipe) if tool == "imgaug" else None
        self._cache = [self._load(path) for path in self._paths] if cached else None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self._cache[index] if self._cache else self._load(self._paths[index])
        return self._change(image, mask)

    def _load(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        height, width = self._size
        image = Image.open(path).convert("L").resize((width, height), Image.Resampling.BILINEAR)
        mask = Image.open(path.parent.parent / "masks" / path.name).resize((width, height), Image.Resampling.NEAREST)
        return np.asarray(image), (np.asarray(mask) > 127).astype(np.uint8)

    def _by_imgaug(self, image: np.ndarray, mask: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        from imgaug.augmentables.segmaps import SegmentationMapsOnImage  # behind what is lent above

        segmentation = SegmentationMapsOnImage(mask[..., None].astype(np.int32), shape=image.shape)
        image, segmentation = self._sequence(image=image[..., None], segmentation_maps=segmentation)
        mask = segmentation.get_arr()[..., 0]
        return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)), torch.from_numpy(mask).float()[None]

    def _by_grid_sample(self, image: np.ndarray, mask: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The same ranges as imgaug's; one matrix for flip, rotation, shear, zoom and shift."""
        settings = self._settings

        def uniform(largest: float) -> float:
            return float(torch.empty(1).uniform_(-largest, largest))

        angle, shear = (
            np.radians(uniform(settings.rotation_degrees)),
            np.radians(uniform(settings.shear_degrees)),
        )
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        zoom = np.diag([1 / (1 + uniform(settings.zoom)), 1 / (1 + uniform(settings.zoom))])
        flip = np.diag([-1.0 if torch.rand(1) < settings.horizontal_flip else 1.0, 1.0])
        matrix = flip @ zoom @ np.array([[1, np.tan(shear)], [0, 1]]) @ rotation
        shift = [[2 * uniform(settings.shift)], [2 * uniform(settings.shift)]]
        theta = torch.from_numpy(np.hstack([matrix, shift])).float()[None]
        grid = F.affine_grid(theta, [1, 1, *self._size], align_corners=False)
        pixels = torch.from_numpy(image.astype(np.float32))[None, None]
        classes = torch.from_numpy(mask.astype(np.float32))[None, None]
        pixels = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
        classes = F.grid_sample(classes, grid, mode="nearest", align_corners=False)
        contrast, offset = 1 + uniform(settings.contrast), 255 * uniform(settings.channel_shift)
        return ((pixels - 128) * contrast + 128 + offset).clamp(0, 255)[0], classes[0]


def _imgaug_sequence(recipe: Recipe) -> iaa.Sequential:
    settings = recipe.augmentation
    return iaa.Sequential(
        [
            iaa.Fliplr(settings.horizontal_flip),
            iaa.Affine(
                rotate=(-settings.rotation_degrees, settings.rotation_degrees),
                translate_percent=dict.fromkeys(("x", "y"), (-settings.shift, settings.shift)),
                shear=(-settings.shear_degrees, settings.shear_degrees),
                scale=(1 - settings.zoom, 1 + settings.zoom),
                mode="constant",
                backend="cv2",
            ),
            iaa.LinearContrast((1 - settings.contrast, 1 + settings.contrast)),
            iaa.Add((round(-255 * settings.channel_shift), round(255 * settings.channel_shift))),
        ]
    )


class PyTorch:
    """The tasks, done by PyTorch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        torch.set_num_threads(CORES)

    def hello(self) -> dict[str, Any]:
        """Versions and threads."""
        return {"torch": torch.__version__, "threads of each": torch.get_num_threads()}

    def describe(self, subject: str) -> dict[str, Any]:
        """Takes over the weights of the other side and compares what the network gives."""
        recipe = _recipe(subject)
        stored = np.load(self._folder / f"{subject}.npz")
        network = _with_our_weights(recipe, stored).eval()
        with torch.no_grad():
            probability = self._segment(network, stored["images"], recipe)[0]
            logits = network(_to_network(stored["images"], recipe))
            loss = float(dice_and_cross_entropy(logits, _masks(stored)))
        difference = float(np.abs(probability.transpose(0, 2, 3, 1) - stored["probability"]).max())
        weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        return {"weights": weights, "difference": difference, "loss": loss}

    def prepare(self, task: str) -> Callable[[], object]:
        """See `side_protocol.Framework`."""
        (kind, *how), settings = flags_and_settings(task)
        if kind == "pipeline":
            return self._pipeline("cached" in how, "grid_sample" if "grid_sample" in how else "imgaug")
        layout = torch.channels_last if "channels_last" in how else torch.contiguous_format
        if kind == "train":
            return self._training_step(" ".join([how[0], *settings]), layout, "bfloat16" in how)
        if kind == "infer":
            return self._inference(" ".join(["fast", *settings]), int(how[0]), None, how, layout)
        return self._inference(" ".join([how[0], *settings]), int(how[1]), int(how[2]), how, layout)

    def _inference(
        self, subject: str, images: int, side: int | None, how: list[str], layout: torch.memory_format
    ) -> Callable[[], object]:
        """So many images, or parts of them of so many pixels a side, to probabilities and masks."""
        recipe = _recipe(subject)
        stored = np.load(self._folder / f"{subject}.npz")
        network = _with_our_weights(recipe, stored).eval().to(memory_format=layout)
        network = torch.compile(network) if "compiled" in how else network
        array = stored["images"][:images, :side, :side]
        return lambda: self._segment(network, array, recipe, layout)

    def _pipeline(self, cached: bool, tool: str) -> Callable[[], object]:
        recipe = load_recipe("fast")
        loader = DataLoader(
            Phantoms(self._folder / "phantoms", recipe, cached, tool),
            batch_size=recipe.training.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=min(4, CORES),
            persistent_workers=True,
        )
        return lambda: sum(len(images) for images, _ in loader)

    def _training_step(self, subject: str, layout: torch.memory_format, bfloat16: bool) -> Callable[[], object]:
        recipe = _recipe(subject)
        network = _network(recipe).train().to(memory_format=layout)
        settings = recipe.training
        optimizer = torch.optim.Adam(
            network.parameters(), settings.learning_rate, eps=1e-7, weight_decay=settings.weight_decay
        )
        stored = np.load(self._folder / f"{subject}.npz")
        images = _to_network(stored["images"], recipe).contiguous(memory_format=layout)
        masks = _masks(stored)

        def step() -> float:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = network(images)
            loss = dice_and_cross_entropy(logits.float(), masks)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    @torch.no_grad()
    def _segment(
        self,
        network: nn.Module,
        images: np.ndarray,
        recipe: Recipe,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (batch, height, width, 1) to probability and mask, both (batch, 1, height, width)."""
        logits = network(_to_network(images, recipe).contiguous(memory_format=layout))
        probability = F.interpolate(torch.sigmoid(logits), images.shape[1:3], mode="bilinear", align_corners=False)
        return probability.numpy(), (probability >= 0.5).byte().numpy()


def _recipe(subject: str) -> Recipe:
    (name,), settings = flags_and_settings(subject)
    return load_recipe(name, settings)


def _network(recipe: Recipe) -> UNet:
    model = recipe.model
    grouped = getattr(model, "group_size", 0)
    group_sizes = (0, 1) if model.name == "light_unet" else (grouped, grouped)
    return UNet(model.widths, recipe.data.channels, model.dropout, group_sizes)


def _with_our_weights(recipe: Recipe, stored: Mapping[str, np.ndarray]) -> UNet:
    network = _network(recipe)
    waiting = iter([torch.from_numpy(stored[key]) for key in sorted(stored) if key.startswith("weight_")])
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(next(waiting).permute(3, 2, 0, 1))
                module.bias.copy_(next(waiting))
            elif isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.copy_(next(waiting))
    return network


def _masks(stored: Mapping[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(stored["masks"]).float()[:, None]


def _to_network(images: np.ndarray, recipe: Recipe) -> torch.Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, recipe.data.image_size, mode="bilinear", align_corners=False, antialias=True)
    return pixels.expand(-1, recipe.data.channels, -1, -1)


if __name__ == "__main__":
    serve(PyTorch(Path(sys.argv[1])))
