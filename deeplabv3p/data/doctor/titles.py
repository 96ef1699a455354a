"""What findings are called on pages: plain words for the names that JSON files, the console and docs have."""

from __future__ import annotations

_TITLES = {
    "list_unreadable": "A list cannot be read",
    "list_empty": "A list names nothing",
    "unknown_names": "Names on a list that have no files",
    "name_spelling": "Names spelled otherwise than their files",
    "repeated_names": "Names that stand twice on a list",
    "listed_unpaired": "Listed pictures without a label map",
    "ambiguous_name": "Several files for one name",
    "damaged_picture": "Damaged pictures",
    "damaged_label": "Damaged label maps",
    "huge": "Pictures too large to decode",
    "size_differs": "Label maps of another size than their picture",
    "exif_label": "Pictures turned by EXIF whose label maps are not",
    "jpeg_label": "Label maps stored as JPEG",
    "smeared_label": "Label maps with in-between values",
    "label_format": "Label maps in a format other than PNG",
    "mask_0_255": "Masks of 0 and 255",
    "rgb_label": "Colour maps without a list of colours",
    "grey_as_rgb": "Class numbers stored as grey RGB",
    "palettes_unclear": "Palettes that may mean numbers or colours",
    "off_by_one": "Numbers shifted against the class list",
    "unknown_values": "Numbers that are no class",
    "unknown_colors": "Colours that are no class",
    "ambiguous_depth": "Label maps of too few bits",
    "dark_range": "Pictures of 10 to 14 bits in 16-bit files",
    "beyond_white": "Pictures brighter than white",
    "wrong_suffix": "Names that say another format",
    "some_masks_0_255": "Some masks of 0 and 255 among others",
    "exif_unclear": "Pictures turned by EXIF, label maps unclear",
    "in_two_lists": "Pictures in two lists",
    "copies_across": "Copies of pictures in two lists",
    "class_not_trained": "Classes that are scored and never trained",
    "class_empty": "Classes without a pixel",
    "mostly_ignored": "Most pixels are ignored",
    "all_ignored": "Label maps of ignored pixels only",
    "case_clash": "Names that differ in upper and lower case",
    "odd_name": "Names that break other tools",
    "alike_across": "Pictures in two lists that look alike",
    "copies_within": "Copies within a list",
    "tiny_regions": "Regions of a few pixels",
    "rgb_read": "Colour maps, read by colour",
    "palette_read": "Palettes and greys, read by colour",
    "exif_turned": "Pictures turned by EXIF",
    "unicode_spelling": "Accents stored as two characters",
    "without_label": "Pictures without a label map",
    "without_picture": "Label maps without a picture",
    "unlisted": "Samples in no list",
    "no_lists": "No split list",
    "no_classes": "No class list",
}


def title(kind: str) -> str:
    """The plain words for a kind of finding."""
    return _TITLES.get(kind) or kind.replace("_", " ").capitalize()
