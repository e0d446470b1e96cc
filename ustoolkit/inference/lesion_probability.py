"""The probability of any lesion as a small picture, to be kept beside the mask and looked at. No TensorFlow."""

import cv2
import numpy as np

PROBABILITY_FOLDER = "probabilities"  # in an evaluation, beside its masks
LONGEST_SIDE = 256  # pixels; a network says little between the pixels of its own, smaller size


def lesion_probability(probability: np.ndarray, longest_side: int = LONGEST_SIDE) -> np.ndarray:
    """Probability that a pixel is of any class but the background, in 8 bits, made smaller and never larger.

    Args:
        probability: float (height, width, classes), the background first; or with 1 channel, of the lesion.
        longest_side: the most pixels of the longer side of what is returned.
    Returns:
        uint8 (height, width) of the same shape of image, 0 for a probability of 0 and 255 for 1.
    """
    lesion = probability[..., 0] if probability.shape[-1] == 1 else 1 - probability[..., 0]
    height, width = lesion.shape
    scale = min(1.0, longest_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smaller = cv2.resize(np.ascontiguousarray(lesion, np.float32), size, interpolation=cv2.INTER_AREA)
    return np.rint(255 * np.clip(smaller, 0, 1)).astype(np.uint8)
