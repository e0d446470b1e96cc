from .dropout import CountedDropout as CountedDropout
from .grouped import GroupedConvolution as GroupedConvolution
from .noisy import NoisyActivation as NoisyActivation
from .preprocessing import PixelNormalization as PixelNormalization
from .stochastic_depth import StochasticDepth as StochasticDepth
