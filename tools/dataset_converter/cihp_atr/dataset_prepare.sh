#!/bin/sh
# Convert CIHP and ATR to CIHP/ and ATR/; put instance-level-human-parsing.zip into downloads/ first.
# It goes on where it broke off, and deletes nothing.
set -e
cd "$(dirname "$0")/../../.."
dataset() { "${PYTHON:-python}" tools/dataset_converter/dataset.py "$@"; }
dataset convert cihp downloads/instance-level-human-parsing.zip --output CIHP
dataset convert atr downloads/instance-level-human-parsing.zip --output ATR
