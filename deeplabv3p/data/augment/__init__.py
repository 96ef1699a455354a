"""Random geometry, colour, masks and mixing, the same geometry for a picture and its label map."""

from deeplabv3p.data.augment.mixing import Pool, make_pool
from deeplabv3p.data.augment.options import Augmentation, Parameters
from deeplabv3p.data.augment.sample import Varied, vary

__all__ = ["Augmentation", "Parameters", "Pool", "Varied", "make_pool", "vary"]
