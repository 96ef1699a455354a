#!/bin/sh
# Convert Cityscapes to Cityscapes/; put its two archives into downloads/ first, because its site asks for a login.
# It goes on where it broke off, and deletes nothing.
set -e
cd "$(dirname "$0")/../../.."
dataset() { "${PYTHON:-python}" tools/dataset_converter/dataset.py "$@"; }
dataset convert cityscapes downloads/leftImg8bit_trainvaltest.zip downloads/gtFine_trainvaltest.zip --output Cityscapes
