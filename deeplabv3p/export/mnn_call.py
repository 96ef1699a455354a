"""The process of its own that MNN's converter runs in: ``mnnconvert|mnnquant ARGUMENTS``. It loads nothing else."""

import sys

if __name__ == "__main__":
    import _tools  # MNN's C extension

    getattr(_tools, sys.argv[1])(sys.argv[1:])
