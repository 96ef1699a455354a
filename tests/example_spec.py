"""A spec that tests change one thing of: ``SPEC.replace(input={"size_hw": None})``."""

from __future__ import annotations

from deeplabv3p.spec import ClassInfo, InputSpec, ModelInfo, ModelSpec, OutputSpec, Provenance

SPEC = ModelSpec(
    schema_version=1,
    task="segmentation",
    model=ModelInfo("mobilenetv2", 16),
    input=InputSpec(
        name="image",
        size_hw=(64, 96),
        max_side=None,
        layout="NHWC",
        dtype="float32",
        color="RGB",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        scale=None,
        zero_point=None,
        resize="stretch",
        pad_value=127.5,
        interpolation="bilinear",
    ),
    output=OutputSpec("logits", "NHWC", "logits", 4, False, None, None),
    classes=tuple(ClassInfo(name, (i, i, i)) for i, name in enumerate(("red", "green", "blue"))),
    ignore_index=255,
    window=None,
    provenance=Provenance(),
)
