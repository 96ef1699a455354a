#!/bin/sh
# Download CamVid, 0.6 GB, and convert it to CamVid/.
# It goes on where it broke off, and deletes nothing.
set -e
cd "$(dirname "$0")/../../.."
dataset() { "${PYTHON:-python}" tools/dataset_converter/dataset.py "$@"; }
dataset download camvid
dataset convert camvid downloads/701_StillsRaw_full.zip downloads/LabeledApproved_full.zip --output CamVid
