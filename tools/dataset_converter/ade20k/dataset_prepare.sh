#!/bin/sh
# Download ADE20K, 0.9 GB, and convert it to ADEChallengeData2016/.
# It goes on where it broke off, and deletes nothing.
set -e
cd "$(dirname "$0")/../../.."
dataset() { "${PYTHON:-python}" tools/dataset_converter/dataset.py "$@"; }
dataset download ade20k
dataset convert ade20k downloads/ADEChallengeData2016.zip --output ADEChallengeData2016
