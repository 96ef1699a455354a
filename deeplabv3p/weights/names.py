"""Foreign layer names to ours. Pure text: what the networks of other projects call their layers.

Sources of the names: Google's DeepLab (TF-slim scopes, as in its released graphs), keras-deeplab-v3-plus by bonlime
(its ``model.py``), older keras.applications, torchvision's MobileNetV2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What only DeepLab's heads are called, in TF-slim and in bonlime's network alike.
_BONLIME_HEADS = frozenset({"image_pooling", "aspp0", "concat_projection"})
_HEADS = {
    "image_pooling": "aspp_pool",
    "aspp0": "aspp_1x1",
    **{f"aspp{i}_{part}": f"aspp_rate{i}_{part}" for i in (1, 2, 3) for part in ("depthwise", "pointwise")},
    "concat_projection": "aspp_project",
    "feature_projection0": "decoder_low_level",
    **{
        f"decoder_conv{i}_{part}": f"decoder_refine{i + 1}_{part}"
        for i in (0, 1)
        for part in ("depthwise", "pointwise")
    },
    "logits_semantic": "logits",
    "custom_logits_semantic": "logits",
}
BACKBONE_EPSILON, HEAD_EPSILON = 1e-3, 1e-5  # of batch norms in Google's DeepLab and in bonlime's copy of it

# Layers behind the features that a segmentation network reads, and preprocessing, in the files of classifiers.
_CLASSIFIER_PARTS = re.compile(
    r"(conv_[12](_bn)?|top_(conv|bn)|logits.*|predictions|probs|fc\d*|dense.*|classifier.*|\w+_head_\w+"
    r"|layer_normalization(_\d+)?|normalization(_\d+)?|features\.18.*)",
    re.IGNORECASE,
)


def is_classifier_part(name: str) -> bool:
    """Whether a layer of a source belongs to an ImageNet classifier rather than to its features."""
    return _CLASSIFIER_PARTS.fullmatch(name) is not None


def is_bonlime(names: Iterable[str]) -> bool:
    """Whether the layers are those of bonlime's DeepLab."""
    return set(names) >= _BONLIME_HEADS


def from_bonlime(name: str) -> str:
    """A layer of bonlime's DeepLab by our name. Our Xception has bonlime's layer names; MobileNetV2 has Keras'.

    ``aspp0_BN`` → ``aspp_1x1_bn``, ``expanded_conv_3_expand`` → ``block_3_expand``; unknown names stay.
    """
    base, norm = (name.removesuffix("_BN"), True) if name.endswith("_BN") else (name, False)
    if base in _HEADS:
        return _HEADS[base] + ("_bn" if norm else "")
    if base == "Conv":
        return "bn_Conv1" if norm else "Conv1"
    return re.sub(r"^expanded_conv_(?=\d)", "block_", name)


def epsilon_of_bonlime(name: str) -> float:
    """The epsilon that a batch norm of bonlime's DeepLab, or of Google's, was trained with."""
    return HEAD_EPSILON if name.removesuffix("_BN") in _HEADS else BACKBONE_EPSILON


def slim_to_bonlime(scope: str) -> str:
    """A TF-slim scope by bonlime's layer name.

    ``xception_65/middle_flow/block1/unit_3/xception_module/separable_conv1_depthwise`` →
    ``middle_flow_unit_3_separable_conv1_depthwise``, ``MobilenetV2/Conv`` → ``Conv``.
    """
    scope = re.sub(r"^(MobilenetV2|xception_\d+|decoder)/", "", scope)
    scope = scope.replace("/xception_module/", "/")
    scope = re.sub(r"^((?:entry|exit)_flow/block\d+)/unit_1/", r"\1/", scope)
    scope = re.sub(r"^middle_flow/block1/", "middle_flow/", scope)
    return scope.replace("/", "_")


def from_old_mobilenetv3(name: str) -> str:
    """A layer of keras.applications' MobileNetV3 as Keras 2 named it, by its present name.

    ``expanded_conv_3/squeeze_excite/Conv`` → ``expanded_conv_3_squeeze_excite_conv``, ``Conv/BatchNorm`` → ``conv_bn``.
    """
    return name.replace("BatchNorm", "bn").replace("Conv", "conv").replace("/", "_")


def is_old_mobilenetv3(names: Iterable[str]) -> bool:
    """Whether the layers are those of MobileNetV3 as Keras 2 named them."""
    return {"Conv", "Conv/BatchNorm", "expanded_conv/depthwise"} <= set(names)


def from_torch_mobilenetv2(modules: Iterable[str]) -> dict[str, str]:
    """torchvision's modules of MobileNetV2 (``features.2.conv.0.1``) to layer names of Keras (``block_1_expand_BN``).

    Within a block both have the same order: expansion (not in the first), depthwise, projection, each with its norm.
    So one rule serves torchvision's nested blocks and the flat ones of its first versions. Others are left out.
    """
    result = {"features.0.0": "Conv1", "features.0.1": "bn_Conv1"}
    blocks: dict[int, list[tuple[int, ...]]] = {}
    for module in modules:
        if match := re.fullmatch(r"features\.([0-9]{1,9})\.conv\.([0-9]{1,9}(?:\.[0-9]{1,9})*)", module):
            blocks.setdefault(int(match[1]), []).append(tuple(int(part) for part in match[2].split(".")))
    roles = [f"{role}{norm}" for role in ("expand", "depthwise", "project") for norm in ("", "_BN")]
    for block, places in blocks.items():
        prefix = f"block_{block - 1}" if block > 1 else "expanded_conv"
        expected = roles if block > 1 else roles[2:]
        if len(places) == len(expected):
            for place, role in zip(sorted(places), expected, strict=True):
                result[f"features.{block}.conv.{'.'.join(map(str, place))}"] = f"{prefix}_{role}"
    return result
