"""Small 3-D U-Net trunk for volumes, built to be fast on CPU.

The network alone; heads are dense layers on its output features (a 1x1x1 convolution
is `nnx.Linear` on the last axis).
"""

import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax import numpy as jnp

from headwise import _checks
from headwise.nn import _convolution
from headwise.nn import _kernels


class UNet3D(nnx.Module):
    """U-Net trunk: one feature vector a voxel, from several scales.

    With block = relu ∘ group norm ∘ 3x3x3 convolution (zero padded), levels l = 0..L
    of widths features[l], and e_{-1} = x::

        e_0 = block(x),   e_l = block(mean_pool_2(e_{l-1}))           encoder
        d_L = block(e_L),  d_l = block(e_l + upsample_2(W_l d_{l+1}))   decoder

    and the output is d_0. Upsampling repeats voxels. The skip connection adds where
    the original concatenates: the same scales meet, with half the work in the finest,
    dearest convolution. Without norm, an output sees up to 5, 14 or 34
    voxels along each axis with one, two or three levels.

    Args:
        in_features: channels of the input.
        features: channels of each level, finest first. len(features) - 1 poolings.
        norm: True puts group norm (4 groups, or the most of 2, 1 that divides the
            width) before each activation; False leaves it out.
        conv_general_dilated: the convolution; the default is fast on CPU and the
            built-in on GPU and TPU.
        dtype: dtype of the computation (such as `jnp.bfloat16`); None follows the input
            and the parameters, which are float32.
        rngs: random streams for the initial values.

    Returns:
        Calls map [B, X, Y, Z, in_features] to [B, X, Y, Z, features[0]]. X, Y and Z
        must be multiples of 2 ** (len(features) - 1).

    Raises:
        ValueError: `features` is empty or has an entry that is not a positive integer;
            in a call, another rank or number of channels, or a side that cannot be
            pooled.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import MultiHead, UNet3D
        >>> rngs = nnx.Rngs(0)
        >>> trunk = UNet3D(1, (2, 4), rngs=rngs)
        >>> heads = {
        ...     "tissue": nnx.Linear(2, 4, rngs=rngs),
        ...     "t1": nnx.Linear(2, 1, rngs=rngs),
        ... }
        >>> model = MultiHead(trunk, heads)
        >>> outputs = jax.jit(lambda x: model(x))(jnp.ones((1, 4, 4, 4, 1)))
        >>> {name: y.shape for name, y in outputs.items()}
        {'t1': (1, 4, 4, 4, 1), 'tissue': (1, 4, 4, 4, 4)}

    References:
        O. Cicek et al., "3D U-Net", MICCAI 2016, figure 2; skips that add: A. Chaurasia
        and E. Culurciello, "LinkNet", VCIP 2017, figure 1.
    """

    def __init__(
        self,
        in_features: int,
        features: Sequence[int] = (8, 16),
        *,
        norm: bool = True,
        conv_general_dilated: Callable[..., jax.Array] = (
            _convolution.matmul_convolution
        ),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        in_features = _checks.positive_int("in_features", in_features)
        features = _checks.positive_ints("features", features)
        if not features:
            raise ValueError("features: expected at least one level, got none")
        _checks.boolean("norm", norm)
        _checks.function("conv_general_dilated", conv_general_dilated)
        self.in_features, self.features = in_features, features

        def block(n: int, m: int) -> _Block:
            return _Block(n, m, norm, conv_general_dilated, dtype, rngs)

        self.encoder = nnx.List(
            block(n, m)
            for n, m in zip((in_features, *features[:-1]), features, strict=True)
        )
        self.bottom = block(features[-1], features[-1])
        finer_coarser = list(itertools.pairwise(features))
        self.project = nnx.List(
            nnx.Linear(m, n, dtype=dtype, rngs=rngs) for n, m in finer_coarser
        )
        self.decoder = nnx.List(block(n, n) for n, _ in finer_coarser)

    def __call__(self, x: jax.Array) -> jax.Array:
        factor = 2 ** (len(self.features) - 1)
        if x.ndim != 5 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x: expected shape [B, X, Y, Z, {self.in_features}], got {x.shape}"
            )
        if any(side % factor or side == 0 for side in x.shape[1:4]):
            raise ValueError(
                f"x: expected X, Y, Z to be positive multiples of {factor} for "
                f"{len(self.features)} levels, got {x.shape[1:4]}"
            )
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(_mean_pool(x) if level else x)
            skips.append(x)
        x = self.bottom(x)
        for level in reversed(range(len(self.features) - 1)):
            x = self.decoder[level](skips[level] + _upsample(self.project[level](x)))
        return x


class _Block(nnx.Module):
    """Convolution, group norm (or not), relu."""

    def __init__(self, n, m, norm, conv_general_dilated, dtype, rngs):
        self.convolution = nnx.Conv(
            n,
            m,
            (3, 3, 3),
            dtype=dtype,
            kernel_init=_kernels.flat_initializer(),
            conv_general_dilated=conv_general_dilated,
            rngs=rngs,
        )
        groups = next(g for g in (4, 2, 1) if m % g == 0)
        self.norm = (
            nnx.GroupNorm(m, num_groups=groups, dtype=dtype, rngs=rngs)
            if norm
            else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.convolution(x)
        return jax.nn.relu(x if self.norm is None else self.norm(x))


def _mean_pool(x: jax.Array) -> jax.Array:
    b, d, h, w, c = x.shape
    return x.reshape(b, d // 2, 2, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4, 6))


def _upsample(x: jax.Array) -> jax.Array:
    b, d, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :, None], (b, d, 2, h, 2, w, 2, c))
    return x.reshape(b, 2 * d, 2 * h, 2 * w, c)
