#!/usr/bin/env bash
# Segment the pictures of a list into label PNGs, to be scored with tools/evaluation or `deeplabSegment eval`.
#
#   eval_inference.sh MODEL IMAGE_FOLDER DATASET_FILE CLASSES OUTPUT_FOLDER
#
# The program is build/host/deeplabSegment beside this script, the one in PATH, or what DEEPLAB_SEGMENT names.
set -euo pipefail
if [ $# -ne 5 ]; then
  echo "usage: ${0##*/} MODEL IMAGE_FOLDER DATASET_FILE CLASSES OUTPUT_FOLDER" >&2
  exit 2
fi
own=$(cd "$(dirname "$0")" && pwd)/build/host/deeplabSegment
program=${DEEPLAB_SEGMENT:-$own}
[ -x "$program" ] || program=$(command -v deeplabSegment) || {
  echo "error: deeplabSegment is not built. Run 'make device', or name it in DEEPLAB_SEGMENT." >&2
  exit 5
}
exec "$program" -m "$1" -i "$2" --list "$3" -l "$4" --output "$5"
