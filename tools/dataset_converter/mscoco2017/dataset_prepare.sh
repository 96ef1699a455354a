#!/bin/sh
# Download COCO 2017, 20 GB, and draw its instances into mscoco2017/; pictures with fewer than 1000 annotated pixels are left out.
# It goes on where it broke off, and deletes nothing.
set -e
cd "$(dirname "$0")/../../.."
dataset() { "${PYTHON:-python}" tools/dataset_converter/dataset.py "$@"; }
archives="annotations_trainval2017.zip val2017.zip train2017.zip"
dataset download mscoco2017 $archives
dataset convert mscoco2017 $(printf "downloads/%s " $archives) --min_pixels 1000 --output mscoco2017
