"""The parts of Keras that a model file may name. Whatever is not here is refused: what a future Keras adds, too.

All of it is arithmetic on tensors: nothing here reads, writes, downloads, or takes a function of Python's. Our
networks and those of ``keras.applications`` need less.
"""

from __future__ import annotations

_LAYERS = frozenset(
    {
        *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"),
        *("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"),
        *("AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"),
        *("Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D", "SeparableConv2D"),
        *("BatchNormalization", "GroupNormalization", "LayerNormalization", "UnitNormalization"),
        *("Cropping2D", "Flatten", "Identity", "InputLayer", "Permute", "Reshape", "UpSampling2D", "ZeroPadding2D"),
        *("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"),
        *("Normalization", "Rescaling"),
    }
)
_INITIALIZERS = frozenset(
    {
        *("Constant", "Identity", "Ones", "Orthogonal", "VarianceScaling", "Zeros"),
        *("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform"),
        *("RandomNormal", "RandomUniform", "TruncatedNormal"),
    }
)
_REGULARIZERS = frozenset({"L1", "L1L2", "L2"})
_CONSTRAINTS = frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"})
_NETWORKS = frozenset({"Functional", "Sequential"})

ACTIVATIONS = frozenset(
    {
        *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"),
        *("leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
        *("soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "squareplus", "swish", "tanh"),
        *("tanh_shrink", "threshold"),
    }
)
"""Functions that a layer may name as its activation, by their name alone or in ``keras.activations``."""

OPERATIONS = {
    "image": frozenset({"Resize"}),
    "nn": frozenset({"DepthToSpace", "SpaceToDepth", *("Relu", "Relu6", "Sigmoid", "Silu", "Softmax", "HardSigmoid")}),
    "numpy": frozenset(
        {*("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum"), "Concatenate", "Mean", "Pad"}
    ),
}
"""Operations on tensors outside of layers, by the module of ``keras.src.ops`` that they live in."""

CLASSES: frozenset[tuple[str, str]] = frozenset(
    {
        *(("keras.layers", name) for name in _LAYERS),
        *(("keras.initializers", name) for name in _INITIALIZERS),
        *(("keras.regularizers", name) for name in _REGULARIZERS),
        *(("keras.constraints", name) for name in _CONSTRAINTS),
        *((f"keras.src.ops.{module}", name) for module, names in OPERATIONS.items() for name in names),
        ("keras", "DTypePolicy"),
        ("keras", "FloatDTypePolicy"),  # Keras 3.2 and before
        ("keras", "Sequential"),
        ("keras", "Model"),
        ("keras.src.models.functional", "Functional"),
        # Scales of ConvNeXt and Inception-ResNet, which Keras keeps beside these networks.
        ("keras.src.applications.convnext", "LayerScale"),
        ("keras.src.applications.inception_resnet_v2", "CustomScaleLayer"),
    }
)
"""Classes as (module, name), spelled as Keras writes them."""

BARE_CLASSES = frozenset(
    {
        *(_LAYERS | _INITIALIZERS | _REGULARIZERS | _CONSTRAINTS | _NETWORKS),
        *(name for names in OPERATIONS.values() for name in names),
        *("Model", "DTypePolicy", "Policy"),
    }
)
"""Classes by their name alone, as ``.h5`` files have them."""
