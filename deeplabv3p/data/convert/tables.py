"""The classes of published datasets: names, colours and numbers as their authors give them."""

from __future__ import annotations

from deeplabv3p.data.classes import default_colors
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo


def _plain(names: str) -> tuple[ClassInfo, ...]:
    split = [name.strip() for name in names.split(",")]
    return tuple(ClassInfo(name, color) for name, color in zip(split, default_colors(len(split)), strict=True))


VOC = _plain(
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, "
    "motorbike, person, pottedplant, sheep, sofa, train, tvmonitor"
)
CIHP = _plain(
    "background, hat, hair, glove, sunglasses, upper clothes, dress, coat, socks, pants, torso skin, scarf, skirt, "
    "face, left arm, right arm, left leg, right leg, left shoe, right shoe"
)
ATR = _plain(
    "background, hat, hair, sunglasses, upper clothes, skirt, pants, dress, belt, left shoe, right shoe, face, "
    "left leg, right leg, left arm, right arm, bag, scarf"
)

CITYSCAPES = (
    ClassInfo("road", (128, 64, 128)),
    ClassInfo("sidewalk", (244, 35, 232)),
    ClassInfo("building", (70, 70, 70)),
    ClassInfo("wall", (102, 102, 156)),
    ClassInfo("fence", (190, 153, 153)),
    ClassInfo("pole", (153, 153, 153)),
    ClassInfo("traffic light", (250, 170, 30)),
    ClassInfo("traffic sign", (220, 220, 0)),
    ClassInfo("vegetation", (107, 142, 35)),
    ClassInfo("terrain", (152, 251, 152)),
    ClassInfo("sky", (70, 130, 180)),
    ClassInfo("person", (220, 20, 60)),
    ClassInfo("rider", (255, 0, 0)),
    ClassInfo("car", (0, 0, 142)),
    ClassInfo("truck", (0, 0, 70)),
    ClassInfo("bus", (0, 60, 100)),
    ClassInfo("train", (0, 80, 100)),
    ClassInfo("motorcycle", (0, 0, 230)),
    ClassInfo("bicycle", (119, 11, 32)),
)
_TRAINED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_IDS = dict.fromkeys((*range(34), 255), IGNORE) | {number: label for label, number in enumerate(_TRAINED_IDS)}
"""Label id → training id. Ids 0 to 33; a license plate, id -1, is stored as 255."""

# name, colour, and the class of the 11 that it is part of, as SegNet grouped them
_CAMVID = (
    ("Animal", (64, 128, 64), "Pedestrian"),
    ("Archway", (192, 0, 128), "Building"),
    ("Bicyclist", (0, 128, 192), "Bicyclist"),
    ("Bridge", (0, 128, 64), "Building"),
    ("Building", (128, 0, 0), "Building"),
    ("Car", (64, 0, 128), "Car"),
    ("CartLuggagePram", (64, 0, 192), "Pedestrian"),
    ("Child", (192, 128, 64), "Pedestrian"),
    ("Column_Pole", (192, 192, 128), "Pole"),
    ("Fence", (64, 64, 128), "Fence"),
    ("LaneMkgsDriv", (128, 0, 192), "Road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "Road"),
    ("Misc_Text", (128, 128, 64), "SignSymbol"),
    ("MotorcycleScooter", (192, 0, 192), "Bicyclist"),
    ("OtherMoving", (128, 64, 64), "Car"),
    ("ParkingBlock", (64, 192, 128), "Pavement"),
    ("Pedestrian", (64, 64, 0), "Pedestrian"),
    ("Road", (128, 64, 128), "Road"),
    ("RoadShoulder", (128, 128, 192), "Pavement"),
    ("Sidewalk", (0, 0, 192), "Pavement"),
    ("SignSymbol", (192, 128, 128), "SignSymbol"),
    ("Sky", (128, 128, 128), "Sky"),
    ("SUVPickupTruck", (64, 128, 192), "Car"),
    ("TrafficCone", (0, 0, 64), "Pole"),
    ("TrafficLight", (0, 64, 64), "SignSymbol"),
    ("Train", (192, 64, 128), "Car"),
    ("Tree", (128, 128, 0), "Tree"),
    ("Truck_Bus", (192, 128, 192), "Car"),
    ("Tunnel", (64, 0, 64), "Building"),
    ("VegetationMisc", (192, 192, 0), "Tree"),
    ("Void", (0, 0, 0), "Void"),
    ("Wall", (64, 192, 0), "Building"),
)
CAMVID_COLORS = {name: color for name, color, _ in _CAMVID}
CAMVID_GROUPS = {name: group for name, _, group in _CAMVID}
CAMVID = (
    ClassInfo("Sky", (128, 128, 128)),
    ClassInfo("Building", (128, 0, 0)),
    ClassInfo("Pole", (192, 192, 128)),
    ClassInfo("Road", (128, 64, 128)),
    ClassInfo("Pavement", (0, 0, 192)),
    ClassInfo("Tree", (128, 128, 0)),
    ClassInfo("SignSymbol", (192, 128, 128)),
    ClassInfo("Fence", (64, 64, 128)),
    ClassInfo("Car", (64, 0, 128)),
    ClassInfo("Pedestrian", (64, 64, 0)),
    ClassInfo("Bicyclist", (0, 128, 192)),
)
CAMVID_VOID = ClassInfo("Void", (0, 0, 0))


def camvid_split(name: str) -> str:
    """The list of SegNet's split, 367 / 101 / 233, that a CamVid frame such as ``0016E5_07959`` is in. Whole scenes,
    but for two: the second half of 0001TP is tested, 200 frames of 0016E5 validate."""
    scene, _, frame = name.partition("_")
    number = int("".join(letter for letter in frame if letter in "0123456789")[:9] or 0)
    if scene == "Seq05VD" or (scene == "0001TP" and number >= 8550):
        return "test"
    return "val" if scene == "0016E5" and 7959 <= number <= 8159 else "train"
