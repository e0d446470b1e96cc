"""From a trained model and images to masks, overlays, and the tables of an evaluation.

Names load when they are first used, since some bring TensorFlow; `__init__.pyi` says which there are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
