"""How well predicted masks agree with annotated ones: an image at a time, then summarised with intervals.

Names load when they are first used, since some bring TensorFlow; `__init__.pyi` says which there are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
