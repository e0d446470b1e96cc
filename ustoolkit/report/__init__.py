"""A run on one page: scores, example images, data, curves and settings."""
