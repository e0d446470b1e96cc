"""What can be wrong with a user's input, said so that it can be put right.

A message names the place, what was expected, what was found, and the remedy. The command line prints it and
exits with 2; anything else that escapes is a fault of ours and exits with 1.
"""


class UstoolkitError(Exception):
    """The user's input is wrong; the message says where, what was expected, and the remedy."""


class DataError(UstoolkitError):
    """An image, mask, table or folder cannot be read as what it should be."""


class RecordsError(UstoolkitError):
    """A records folder is missing, damaged, or does not fit what is asked of it."""


class RecipeError(UstoolkitError):
    """A recipe or an overriding setting is not valid."""


class RunError(UstoolkitError):
    """A run folder or an exported model is missing, incomplete, or does not fit the data."""


class OutputError(UstoolkitError):
    """A result cannot be written where it should go."""


class ShapeError(UstoolkitError, ValueError):
    """Two arrays that must agree in shape do not."""
