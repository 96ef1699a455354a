"""The formats that can be converted, as records that need neither NumPy nor OpenCV: what a command lists and parses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from deeplabv3p.errors import UsageError

if TYPE_CHECKING:
    from deeplabv3p.data.classes import ClassList


@dataclass(frozen=True)
class Options:
    """What can be asked of a conversion; :attr:`Format.options` says which of it a format knows.

    Attributes:
        classes: the classes to convert to, in label order; None: those of the source.
        others: what becomes of annotations whose name is not in ``classes``: an error, pixels without annotation, or
            ignored pixels.
        unlabelled: what pixels without annotation are: label 0, a class called background, or ignored.
        thickness: pixels across a line, and across a point.
        order: what is drawn first: the larger shapes, so that the smaller lie on top, or those that come first in the
            file; None: what :attr:`Format.order` says.
        polygon_only: leave out all shapes but polygons.
        boxes: fill boxes, too, where an export holds some.
        min_pixels: leave out pictures with fewer annotated pixels.
        annotation: what to read of COCO 2017: the instances' JSON or the label maps of COCO-Stuff.
        class_number: CamVid's 32 classes as 11, or as 12 with Void as the last.
        void_width: SBD: ignore so many pixels on each side of a boundary, as VOC's own label maps do (theirs: 2).
        images, labels: RGB masks: the folders of pictures and of masks.
        label_suffix: RGB and instance masks: what a mask's name has behind the picture's.
        class_name: instance masks, and VIA's regions without attributes: the name of the class.
        attribute: VIA: the attribute of regions that is their class; None: the only one, or one of a usual name.
    """

    classes: ClassList | None = None
    others: Literal["error", "unlabelled", "ignore"] = "error"
    unlabelled: Literal["background", "ignore"] = "background"
    thickness: int = 5
    order: Literal["area", "file"] | None = None
    polygon_only: bool = False
    boxes: bool = False
    min_pixels: int = 0
    annotation: Literal["instances", "stuff"] = "instances"
    class_number: Literal[11, 12] = 11
    void_width: int = 0
    images: str = "images"
    labels: str = "labels"
    label_suffix: str | None = None
    class_name: str = "object"
    attribute: str | None = None


@dataclass(frozen=True)
class Format:
    """A format that can be converted.

    Attributes:
        name: what users type.
        summary: one line.
        source: the folders or archives it takes, as one sentence.
        module: the module of this package whose ``read(tree, options)`` reads it.
        options: the names of those fields of :class:`Options` that it knows.
        archives: the files that ``download`` gets, by their names in the manifest.
        order: which shapes lie on top: those that come later in the "file", where the format has an order of depth,
            else those of the smaller "area".
        by_hand: why there is nothing to download, and where people get it.
    """

    name: str
    summary: str
    source: str
    module: str
    options: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    by_hand: str | None = None
    order: Literal["area", "file"] = "file"


_CLASSES = ("classes", "others", "unlabelled")
_OWN = "These are your own files; there is nothing to download."

FORMATS = {
    item.name: item
    for item in (
        Format(
            "voc_augment",
            "PASCAL VOC 2012 and SBD, 21 classes, VOC val kept out of training",
            "VOCtrainval_11-May-2012.tar (or VOC2012/) and, optional, benchmark.tgz (or benchmark_RELEASE/)",
            "voc",
            ("void_width",),
            ("VOCtrainval_11-May-2012.tar", "benchmark.tgz"),
        ),
        Format(
            "mscoco2017",
            "COCO's instances JSON, or any file of that form, or COCO-Stuff label maps",
            "the annotations (.json, or an archive or folder of them) and the pictures (train2017.zip, val2017.zip, …)",
            "coco",
            (*_CLASSES, "order", "min_pixels", "annotation"),
            ("annotations_trainval2017.zip", "val2017.zip", "train2017.zip", "stuffthingmaps_trainval2017.zip"),
            order="area",
        ),
        Format(
            "ade20k",
            "ADE20K scene parsing, 150 classes",
            "ADEChallengeData2016.zip (or its folder)",
            "ade20k",
            (),
            ("ADEChallengeData2016.zip",),
        ),
        Format(
            "cityscapes",
            "Cityscapes, label ids to the 19 training ids",
            "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (or their folders)",
            "cityscapes",
            by_hand="Cityscapes asks for a login: get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from "
            "https://www.cityscapes-dataset.com/downloads/",
        ),
        Format(
            "camvid",
            "CamVid, 32 colours to 11 or 12 classes, or to those of a class file",
            "701_StillsRaw_full.zip and LabeledApproved_full.zip (or their folders)",
            "camvid",
            ("classes", "class_number"),
            ("701_StillsRaw_full.zip", "LabeledApproved_full.zip"),
        ),
        Format(
            "cihp",
            "CIHP human parsing, 20 classes",
            "instance-level-human-parsing.zip or its folder with Training/ and Validation/",
            "parsing",
            by_hand="CIHP is on Google Drive, which gives no file to a plain download: get it from "
            "https://drive.google.com/uc?id=1B9A9UCJYMwTL4oBEo4RZfbMZMaZhKJaz",
        ),
        Format(
            "atr",
            "ATR human parsing, 18 classes",
            "instance-level-human-parsing.zip or the folder humanparsing/ in it",
            "parsing",
            by_hand="ATR comes in the same archive as CIHP: get it from "
            "https://drive.google.com/uc?id=1B9A9UCJYMwTL4oBEo4RZfbMZMaZhKJaz",
        ),
        Format(
            "labelme",
            "labelme JSON files, pictures beside them or inside",
            "folders or archives of .json files",
            "labelme",
            (*_CLASSES, "order", "thickness", "polygon_only"),
            by_hand=_OWN,
        ),
        Format(
            "cvat",
            "CVAT exports: for images 1.1 (XML), or segmentation mask 1.1",
            "the export (.zip or folder), and a folder of the pictures where it was made without them",
            "cvat",
            (*_CLASSES, "order", "thickness", "boxes"),
            by_hand=_OWN,
        ),
        Format(
            "labelstudio",
            "Label Studio JSON with polygonlabels and brushlabels",
            "the JSON export and a folder of the pictures",
            "labelstudio",
            (*_CLASSES, "order", "boxes"),
            by_hand=_OWN,
            order="area",
        ),
        Format(
            "via",
            "VGG Image Annotator: VIA 1 and 2 as JSON or CSV, VIA 3 projects",
            "the project or annotations (.json, .csv) and a folder of the pictures",
            "via",
            (*_CLASSES, "order", "thickness", "boxes", "attribute", "class_name"),
            by_hand=_OWN,
            order="area",
        ),
        Format(
            "supervisely",
            "Supervisely projects: meta.json, and ann/ beside img/ with polygons and bitmaps",
            "the project (folder or archive)",
            "supervisely",
            (*_CLASSES, "order", "thickness", "boxes"),
            by_hand=_OWN,
        ),
        Format(
            "roboflow",
            "Roboflow's semantic segmentation masks: _classes.csv, NAME.jpg, NAME_mask.png",
            "the export (folder or archive) with train/, valid/, test/",
            "roboflow",
            ("classes", "others"),
            by_hand=_OWN,
        ),
        Format(
            "rgb_masks",
            "a folder of pictures and one of RGB masks, with a class file that gives the colours",
            "a folder or archive that holds both",
            "masks",
            ("classes", "others", "images", "labels", "label_suffix"),
            by_hand=_OWN,
        ),
        Format(
            "penn_fudan",
            "Penn-Fudan pedestrians, or masks like theirs with a number for each instance: one class",
            "PennFudanPed.zip, or a folder with PNGImages/ and PedMasks/ (or images/ and masks/)",
            "instances",
            ("class_name", "label_suffix"),
            ("PennFudanPed.zip",),
        ),
        Format(
            "paddleseg",
            "PaddleSeg: train.txt, val.txt with 'image label' lines, labels.txt",
            "the folder or archive",
            "paddleseg",
            ("classes",),
            by_hand=_OWN,
        ),
        Format(
            "yolo",
            "Ultralytics segmentation: images/, labels/ with normalised polygons, data.yaml",
            "the folder or archive",
            "yolo",
            (*_CLASSES, "order"),
            by_hand=_OWN,
            order="area",
        ),
    )
}


AUTO = Format(
    "auto",
    "look what the source is, say it, and convert it",
    "folders or archives of one of the other formats",
    "",
    tuple(item.name for item in fields(Options)),
)
"""What recognises a source; it is no format itself."""


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"'{name}' is not a format that can be converted. There are {', '.join(FORMATS)}.")
    return FORMATS[name]
