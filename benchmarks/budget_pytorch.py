"""A plain U-net in PyTorch, as somebody who knows PyTorch well would train it; only the settings are the toolkit's."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from side_pytorch import UNet
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ustoolkit.recipe import Recipe
from ustoolkit.recipe.augmentation import AugmentationSettings

_SPARE = 1.2  # a busy machine predicts slower than it was measured


class Augmented(Dataset):
    """Images and masks of the network's size, changed anew each time they are asked for.

    Args:
        images: uint8 (images, height, width, channels).
        masks: uint8 (images, height, width), 1 in the lesion.
        settings: how far each change may go.
    """

    def __init__(self, images: np.ndarray, masks: np.ndarray, settings: AugmentationSettings) -> None:
        self._images, self._masks, self._settings = images, masks, settings

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(self._images[index]).permute(2, 0, 1)[None].float()
        lesion = torch.from_numpy(self._masks[index])[None, None].float()
        grid = F.affine_grid(_change(self._settings), [1, 1, *lesion.shape[2:]], align_corners=False)
        pixels = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
        return pixels[0], F.grid_sample(lesion, grid, mode="nearest", align_corners=False)[0]


@dataclass
class Trained:
    """What training leaves.

    Attributes:
        weights: of the best epoch.
        best_epoch: from 1.
        best_dice: mean over the validation images, at the network's size.
        history: one row an epoch; the last one may have been cut short.
        images: trained on, doubles counted.
        seconds: spent on training steps alone.
    """

    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_dice: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0


class Network:
    """The U-net of a recipe, and what goes in and out.

    Args:
        recipe: its widths, dropout and channels.
        channels_last: the layout in memory.
    """

    def __init__(self, recipe: Recipe, channels_last: bool) -> None:
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._batch_size = recipe.training.batch_size
        module = UNet(recipe.model.widths, recipe.data.channels, recipe.model.dropout)
        self.module: nn.Module = module.to(memory_format=self._layout)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """float (batch, channels, height, width), 0 to 255, to (batch, 1, height, width)."""
        return self.module(images.contiguous(memory_format=self._layout))

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> Iterator[torch.Tensor]:
        """uint8 (images, height, width, channels) to float (height, width), one after the other."""
        self.module.eval()
        for start in range(0, len(images), self._batch_size):
            batch = torch.from_numpy(images[start : start + self._batch_size]).permute(0, 3, 1, 2).float()
            yield from torch.sigmoid(self.logits(batch))[:, 0]


def at_network_size(image: np.ndarray, mask: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image, which Pillow smooths before it shrinks it, and its mask.

    Args:
        image: uint8 (height, width, 1 or 3).
        mask: uint8 (height, width), class indices.
        recipe: size and channels.
    Returns:
        uint8 (*image_size, channels) and uint8 (*image_size,), 1 in the lesion.
    """
    height, width = recipe.data.image_size
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture = picture.convert("RGB" if recipe.data.channels == 3 else "L")
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    lesion = Image.fromarray((mask > 0).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(picture).reshape(height, width, -1), np.asarray(lesion)


def train(
    network: Network,
    parts: dict[str, tuple[np.ndarray, np.ndarray]],
    recipe: Recipe,
    threads: int,
    deadline: float,
) -> Trained:
    """Trains until the recipe ends it, or so long that validating and testing end at the deadline.

    Args:
        network: with its first weights.
        parts: images and masks at the network's size of 'train', 'validation' and 'test'; of the last only the count.
        recipe: the published settings.
        threads: that PyTorch has; at most two processes augment beside it.
        deadline: of `time.monotonic`.
    """
    settings = recipe.training
    loader = DataLoader(
        Augmented(*parts["train"], recipe.augmentation),
        batch_size=settings.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=min(2, threads),
        persistent_workers=True,
    )
    optimizer = torch.optim.Adam(
        network.module.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    # It waits for one epoch more than it is told to.
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", settings.plateau_factor, settings.plateau_patience - 1, threshold=0.0
    )
    to_predict = [len(parts[name][0]) for name in ("validation", "test")]
    seconds_each = _seconds_to_predict(network, parts["validation"][0][: settings.batch_size])
    trained = Trained(copy.deepcopy(network.module.state_dict()))
    for epoch in range(1, settings.epochs + 1):
        row, in_time = _epoch(network, loader, optimizer, deadline - _SPARE * seconds_each * sum(to_predict))
        trained.images += row["images"]
        trained.seconds += row["seconds"]
        start = time.monotonic()
        dice = validation_dice(network, *parts["validation"])
        seconds_each = (time.monotonic() - start) / to_predict[0]
        schedule.step(dice)
        trained.history.append({"epoch": epoch, **row, "validation_dice": round(dice, 4)})
        print(trained.history[-1], flush=True)
        if dice > trained.best_dice:
            trained.best_epoch, trained.best_dice = epoch, dice
            trained.weights = copy.deepcopy(network.module.state_dict())
        longest = max(one["seconds"] for one in trained.history)
        left = deadline - time.monotonic() - _SPARE * seconds_each * sum(to_predict)
        # Of less than a tenth of an epoch nothing is learned that validating once more would not cost.
        if not in_time or left < 0.1 * longest or epoch - trained.best_epoch >= settings.stop_patience:
            break
    return trained


def validation_dice(network: Network, images: np.ndarray, masks: np.ndarray) -> float:
    """Mean Dice of the images at the network's size, from a probability of 0.5 on."""
    scores = []
    for probability, mask in zip(network.probabilities(images), masks, strict=True):
        found, truth = probability.numpy() >= 0.5, mask > 0
        total = np.count_nonzero(found) + np.count_nonzero(truth)
        scores.append(2 * np.count_nonzero(found & truth) / total if total else math.nan)
    return float(np.nanmean(scores))


def soft_dice(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The published loss, with both sums smoothed by 1; both are (batch, 1, height, width)."""
    probability = torch.sigmoid(logits)
    overlap = (probability * mask).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def _epoch(
    network: Network, loader: DataLoader, optimizer: torch.optim.Optimizer, deadline: float
) -> tuple[dict[str, Any], bool]:
    """One pass over the images, or as far as the deadline allows, a step at least; and whether it was a whole one."""
    network.module.train()
    start, losses, images = time.monotonic(), [], 0
    for batch, masks in loader:
        optimizer.zero_grad()
        loss = soft_dice(network.logits(batch), masks)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        images += len(batch)
        if time.monotonic() > deadline:
            break
    row = {
        "loss": round(float(np.mean(losses)), 4),
        "learning_rate": optimizer.param_groups[0]["lr"],
        "images": images,
        "seconds": round(time.monotonic() - start, 2),
    }
    return row, len(losses) == len(loader)


def _seconds_to_predict(network: Network, images: np.ndarray) -> float:
    """Of an image, after a first batch that takes longer."""
    for _ in range(2):
        start = time.monotonic()
        list(network.probabilities(images))
    return (time.monotonic() - start) / len(images)


def _change(settings: AugmentationSettings) -> torch.Tensor:
    """One random matrix (1, 2, 3) of mirroring, rotation, shear, zoom and shift, for `affine_grid`."""

    def uniform(largest: float) -> float:
        return float(torch.empty(1).uniform_(-largest, largest))

    def mirrored(probability: float) -> float:
        return -1.0 if torch.rand(1) < probability else 1.0

    angle, shear = np.radians(uniform(settings.rotation_degrees)), np.radians(uniform(settings.shear_degrees))
    rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    zoom = np.diag([1 / (1 + uniform(settings.zoom)), 1 / (1 + uniform(settings.zoom))])
    mirror = np.diag([mirrored(settings.horizontal_flip), mirrored(settings.vertical_flip)])
    matrix = mirror @ zoom @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.array(rotation)
    shift = [[2 * uniform(settings.shift)], [2 * uniform(settings.shift)]]
    return torch.from_numpy(np.hstack([matrix, shift])).float()[None]
