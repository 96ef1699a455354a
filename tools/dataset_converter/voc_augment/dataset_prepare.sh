#!/bin/sh
# Download VOC 2012 and SBD, 3.4 GB, and merge them into VOC2012/: train.txt without VOC's val pictures, val.txt.
# It goes on where it broke off, and deletes nothing.
set -e
cd "$(dirname "$0")/../../.."
dataset() { "${PYTHON:-python}" tools/dataset_converter/dataset.py "$@"; }
dataset download voc_augment
dataset convert voc_augment downloads/VOCtrainval_11-May-2012.tar downloads/benchmark.tgz --output VOC2012
