"""DeepLabv3+ semantic segmentation: a picture goes in, a class per pixel comes out, the same in every runtime.

Importing this package costs nothing: engines and Keras are imported by the modules that need them.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("deeplabv3p")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
