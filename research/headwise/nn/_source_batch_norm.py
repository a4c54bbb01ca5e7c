"""Batch normalisation for inputs of several sources: statistics of each source."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax import numpy as jnp

from headwise import _checks


class SourceBatchNorm(nnx.Module):
    """Batch normalisation with statistics a source: domains, hospitals, languages.

    An example of source s is normalised by the mean and variance of the examples of s
    that count in this batch (in training), or by running ones of s (in evaluation)::

        y = (x - mean_s) / sqrt(var_s + epsilon) * scale + bias
        running_s <- momentum * running_s + (1 - momentum) * that of this batch

    Running statistics of a source move only in calls that hold an example of it: those
    of a source that is absent, or masked as a whole, stand still. One `nnx.BatchNorm`
    that is called for each source in turn normalises as this does, but has one running
    mean for all, which forgets the first source for the last.

    Args:
        num_features: C, the size of the last axis.
        sources: names, at least one.
        momentum: share of the running statistics that is kept, in [0, 1].
        epsilon: >= 0, added to variances.
        own_affine: True: a scale and bias a source, as domain-specific batch
            normalisation has them; False: one for all, as in adaptive ones.
        axis_name: of the devices' axis in `jax.shard_map` or `jax.pmap`: sums and
            counts are added up over it, so that parts may be uneven.
        dtype: dtype of the result; None follows the input and the parameters.
            Statistics are float32 or float64.
        rngs: random streams; nothing is drawn of them.

    Returns:
        Calls `norm(x, source, where=None)` map [B, *S, C] to [B, *S, C]. `source` is a
        name, or ints [B] that number the names in sorted order (as `hw.data.mix`
        does); `where`, bool [B] or any prefix of [B, *S], is True where a position
        counts. What does not count is not seen, NaN or not, and comes back finite.
        As in `nnx.BatchNorm`, `use_running_average=` overrides `train()` and `eval()`.

    Raises:
        TypeError, ValueError: a number out of range, no or duplicate names; in a call:
            an unknown name, other shapes (expected and got are printed).

    Example:
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import SourceBatchNorm
        >>> names = ["art", "photo"]
        >>> norm = SourceBatchNorm(1, names, momentum=0.5, rngs=nnx.Rngs(0))
        >>> x = jnp.array([[1.0], [3.0], [50.0], [70.0]])
        >>> print(norm(x, jnp.array([0, 0, 1, 1])).round(2).ravel())
        [-1.  1. -1.  1.]
        >>> print(norm.mean[...].ravel())                # half of 2, half of 60
        [ 1. 30.]
        >>> _ = norm(x[:2], "art")                       # the other one stands still
        >>> print(norm.mean[...].ravel())                # (1 + 2) / 2
        [ 1.5 30. ]

    References:
        W.-G. Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain
        Adaptation", CVPR 2019, equations 3 to 6. Y. Li et al., "Adaptive Batch
        Normalization for practical domain adaptation", Pattern Recognition 80, 2018.
    """

    def __init__(
        self,
        num_features: int,
        sources: Sequence[str],
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        own_affine: bool = False,
        axis_name: Any = None,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        del rngs  # constants alone; taken as every module of nnx takes it
        _checks.positive_int("num_features", num_features)
        self.sources = _checks.head_names("sources", sources)
        _checks.fraction("momentum", momentum)
        _checks.nonnegative("epsilon", epsilon)
        _checks.boolean("own_affine", own_affine)
        shape = (len(self.sources), num_features)
        affine = shape if own_affine else (num_features,)
        self.scale = nnx.Param(jnp.ones(affine))
        self.bias = nnx.Param(jnp.zeros(affine))
        self.mean = nnx.BatchStat(jnp.zeros(shape, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(shape, jnp.float32))
        self.num_features = num_features
        self.momentum, self.epsilon = momentum, epsilon
        self.own_affine, self.axis_name, self.dtype = own_affine, axis_name, dtype
        self.use_running_average = False

    def __call__(
        self,
        x: jax.Array,
        source: str | jax.Array,
        *,
        where: jax.Array | None = None,
        use_running_average: bool | None = None,
    ) -> jax.Array:
        x = jnp.asarray(x)
        if x.ndim < 2 or x.shape[-1] != self.num_features:
            raise ValueError(
                f"x: expected shape [B, ..., {self.num_features}], got {x.shape}"
            )
        ids = self._ids(source, x.shape[0])
        counts = _spread("where", where, x.shape[:-1])
        running = use_running_average
        if running is None:
            running = self.use_running_average
        exact = jnp.promote_types(x.dtype, jnp.float32)
        seen = jnp.where(counts, x, 0).astype(exact)

        def of_example(rows: jax.Array) -> jax.Array:
            """[B, 1 ..., C] of [sources, C]."""
            return jnp.expand_dims(rows[ids], tuple(range(1, x.ndim - 1)))

        if running:
            mean, var = self.mean[...], self.var[...]
            centred = seen - of_example(mean)
        else:
            number = self._sums(jnp.broadcast_to(counts, x.shape[:-1] + (1,)), ids)
            mean = self._sums(seen, ids) / jnp.maximum(number, 1)
            centred = seen - of_example(mean)
            squares = jnp.where(counts, centred, 0) ** 2
            var = self._sums(squares, ids) / jnp.maximum(number, 1)
            for old, new in ((self.mean, mean), (self.var, var)):
                moved = self.momentum * old[...] + (1 - self.momentum) * new
                kept = jnp.where(number > 0, moved, old[...]).astype(old.dtype)
                old[...] = jax.lax.stop_gradient(kept)
        scale, bias = self.scale[...], self.bias[...]
        dtype = self.dtype or jnp.result_type(x, scale, bias)
        if self.own_affine:
            scale, bias = of_example(scale), of_example(bias)
        else:
            shape = (1,) * (x.ndim - 1) + (self.num_features,)
            scale, bias = scale.reshape(shape), bias.reshape(shape)
        normal = centred * jax.lax.rsqrt(of_example(var) + self.epsilon)
        return (normal * scale + bias).astype(dtype)

    def _ids(self, source: str | jax.Array, examples: int) -> jax.Array:
        if isinstance(source, str):
            _checks.known_names("source", self.sources, [source])
            return jnp.full(examples, self.sources.index(source))
        ids = _checks.array("source", source)
        if not jnp.issubdtype(ids.dtype, jnp.integer) or ids.shape != (examples,):
            raise ValueError(
                f"source: expected a name of {list(self.sources)} or ints of shape "
                f"({examples},), got {ids.dtype} of shape {ids.shape}"
            )
        return ids

    def _sums(self, x: jax.Array, ids: jax.Array) -> jax.Array:
        """[sources, C]: over the positions of the examples of each source."""
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        by_example = jnp.sum(x, tuple(range(1, x.ndim - 1)), dtype=dtype)
        sums = jax.ops.segment_sum(by_example, ids, len(self.sources))
        return sums if self.axis_name is None else jax.lax.psum(sums, self.axis_name)


def _spread(argument: str, where: Any, shape: tuple[int, ...]) -> jax.Array:
    """A mask of [B], or of any prefix of the positions, as [B, 1 ..., 1]."""
    if where is None:
        where = jnp.ones(shape[:1], bool)
    mask = _checks.array(argument, where)
    if mask.ndim > len(shape) or mask.shape != shape[: mask.ndim] or not mask.ndim:
        raise ValueError(
            f"{argument}: expected a prefix of {shape}, got shape {mask.shape}"
        )
    ones = (1,) * (len(shape) + 1 - mask.ndim)
    return mask.astype(bool).reshape(*mask.shape, *ones)
