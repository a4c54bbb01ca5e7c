"""Flax NNX parts for multi-task models: functional split, shared trunks, fast 3-D nets.

The only package of the library that imports Flax. Everything above it sees a model
as `apply(params, rest, *args)` with plain pytrees, so any other framework fits too.
"""

from headwise.nn._convnet import ConvNet as ConvNet
from headwise.nn._convolution import matmul_convolution as matmul_convolution
from headwise.nn._functional import Functional as Functional
from headwise.nn._functional import functional as functional
from headwise.nn._functional import unite as unite
from headwise.nn._kernels import flat_initializer as flat_initializer
from headwise.nn._mlp import Mlp as Mlp
from headwise.nn._multihead import MultiHead as MultiHead
from headwise.nn._source_batch_norm import SourceBatchNorm as SourceBatchNorm
from headwise.nn._unet import UNet3D as UNet3D

__all__ = (
    "ConvNet",
    "Functional",
    "Mlp",
    "MultiHead",
    "SourceBatchNorm",
    "UNet3D",
    "flat_initializer",
    "functional",
    "matmul_convolution",
    "unite",
)
