"""Lesions with known outlines, and tissue to draw them in."""

import numpy as np


def polar(radius, size=200, centre=None):
    """bool (size, size): the points nearer to the centre than `radius(angle)`; angle 0 to the right, then downwards."""
    row, column = centre or (size / 2, size / 2)
    rows, columns = np.mgrid[:size, :size].astype(float)
    angle = np.arctan2(rows - row, columns - column)
    return np.hypot(rows - row, columns - column) <= radius(angle)


def disc(radius=40.0, size=200, centre=None):
    """bool (size, size)."""
    return polar(lambda angle: np.full_like(angle, radius), size, centre)


def ellipse(half_height, half_width, size=200, centre=None):
    """bool (size, size)."""
    return polar(
        lambda angle: 1 / np.hypot(np.cos(angle) / half_width, np.sin(angle) / half_height), size=size, centre=centre
    )


def star(spikes, depth=0.25, radius=45.0, size=200):
    """bool (size, size), whose radius has so many waves of `depth`."""
    return polar(lambda angle: radius * (1 + depth * np.cos(spikes * angle)), size)


def square(side=80, size=200):
    """bool (size, size)."""
    mask = np.zeros((size, size), bool)
    start = (size - side) // 2
    mask[start : start + side, start : start + side] = True
    return mask


def tissue(mask, inside=60, around=120, spread=12, grain=1):
    """uint8 (height, width, 1): noise of one level inside the mask and of another around it, in squares of `grain`."""
    height, width = mask.shape
    noise = np.random.default_rng(0).normal(0, spread, (height // grain + 1, width // grain + 1))
    noise = np.kron(noise, np.ones((grain, grain)))[:height, :width]
    return np.clip(np.where(mask, inside, around) + noise, 0, 255).astype(np.uint8)[..., np.newaxis]
