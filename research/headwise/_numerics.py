"""Arithmetic that is safe at the edges: no NaN from 0 / 0, float32 accumulation."""

import functools
from collections.abc import Sequence
from collections.abc import Set
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise.typing import Array
from headwise.typing import PyTree


def common(*dtypes: Any) -> jnp.dtype:
    """What they promote to, also where a user has forbidden that it happens by itself.

    That is for his own arrays; ours are cast where it is meant.
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


def accumulator(*arrays: Array) -> jnp.dtype:
    """The dtype to sum in: at least float32, float64 where an input is float64."""
    return common(jnp.float32, *(array.dtype for array in arrays))


def wide(tree: PyTree) -> PyTree:
    """Arrays of half precision as float32; all else as it is."""

    def cast(x: Any) -> Any:
        half = getattr(x, "dtype", None) in (jnp.float16, jnp.bfloat16)
        return x.astype(jnp.float32) if half else x

    return jax.tree.map(cast, tree)


def mean_of(arrays: Sequence[Array]) -> Array:
    """Of arrays of one type, summed in at least float32."""
    dtype = accumulator(*arrays)
    wide = [x.astype(dtype) for x in arrays]
    return (sum(wide[1:], wide[0]) / len(wide)).astype(arrays[0].dtype)


def safe_divide(numerator: Array, denominator: Array, empty: float) -> Array:
    """Numerator / denominator, and `empty` where the denominator is 0.

    The double `where` keeps the gradient finite (and zero) there too.
    """
    zero = denominator == 0
    ratio = numerator / jnp.where(zero, jnp.ones_like(denominator), denominator)
    return jnp.where(zero, jnp.full_like(ratio, empty), ratio)


# Traced once for all arrays of one type: steps have many of them. Inlined, here and
# wherever else: where arguments are constants (parameters that a jitted function closes
# over) XLA folds several calls of one function wrongly (jaxlib 0.10 and 0.12; right
# without its pass `constant_folding`).
@functools.partial(jax.jit, inline=True)
def drop_zero_weight(weight: Array, value: Array) -> Array:
    """Weight * value, and 0 where the weight is 0 even if the value is NaN."""
    return weight * zero_where(weight == 0, value)


def zero_where(absent: Array, value: Array) -> Array:
    """0 where `absent`, else the value, which may be NaN there.

    A long array with a scalar flag is masked bit by bit: compilers make a copy of the
    loop for each value of a flag that is the same for all entries, 2^H copies for a sum
    over H heads.
    """
    bits = jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize > 1
    if jnp.ndim(absent) or not value.ndim or not bits:
        return jnp.where(absent, jnp.zeros_like(value), value)
    return _masked(absent, value)


@jax.custom_jvp
def _masked(absent: Array, value: Array) -> Array:
    """`zero_where` of an array with a scalar flag."""
    bits = jnp.dtype(f"uint{8 * value.dtype.itemsize}")
    mask = jnp.where(absent, jnp.zeros((), bits), ~jnp.zeros((), bits))
    masked = lax.bitcast_convert_type(value, bits) & mask
    return lax.bitcast_convert_type(masked, value.dtype)


@_masked.defjvp
def _masked_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    absent, tangent = primals[0], tangents[1]
    return _masked(*primals), jnp.where(absent, jnp.zeros_like(tangent), tangent)


def has_sharding_type(array: Array) -> bool:
    """Whether its sharding is part of its type (a mesh with explicit axes).

    Entries cannot be picked then, nor split axes be contracted, without saying where
    the result lies; sums are always possible.
    """
    return _explicit_sharding(jax.typeof(array)) is not None


def is_placed(type_of_array: Any) -> bool:
    """Whether a type says where arrays lie: their entries are not for us to pick."""
    varies = varying_axes(type_of_array)
    return bool(varies) or _explicit_sharding(type_of_array) is not None


def _explicit_sharding(kind: Any) -> Any:
    """The sharding that a type says, on a mesh with explicit axes; else None."""
    sharding = getattr(kind, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    if mesh is None or mesh.empty or not mesh.explicit_axes:
        return None
    return sharding


def alike(tree: PyTree, *others: PyTree) -> PyTree:
    """The arrays with a type that differs between the same devices as all others.

    Inside of `jax.shard_map` the first state of a loop must have the type of the later
    ones; zeros do not differ between devices.
    """
    arrays = [x for x in jax.tree.leaves((tree, others)) if hasattr(x, "dtype")]
    axes = frozenset[str]().union(*(varying_axes(jax.typeof(x)) for x in arrays))

    return jax.tree.map(lambda x: varying(x, axes), tree)


def varying(array: Array, axes: Set[str]) -> Array:
    """The array with a type that differs along these axes of a mesh, and its own."""
    missing = tuple(sorted(axes - varying_axes(jax.typeof(array))))
    return lax.pcast(array, missing, to="varying") if missing else array


def full(kind: Any, value: float, dtype: Any = None) -> Array:
    """An array of one number with the shape and type that a type says, or a dtype."""
    dtype = kind.dtype if dtype is None else dtype
    sharding = _explicit_sharding(kind)
    if sharding is None:
        array = jnp.full(kind.shape, value, dtype)
    else:  # JAX 0.10.0 has no `out_sharding` of `full`
        zeros = jnp.zeros(kind.shape, dtype, out_sharding=sharding)
        array = zeros + jnp.asarray(value, dtype)
    return varying(array, varying_axes(kind))


def varying_axes(type_of_array: Any) -> frozenset[str]:
    """The axes of a mesh along which a type says that its arrays differ."""
    of_axes = getattr(type_of_array, "manual_axis_type", None)
    return frozenset() if of_axes is None else of_axes.varying


def total_over_devices(
    parts: Sequence[Array], axis_name: str | tuple[str, ...] | None
) -> Array:
    """The sum of one number, or array of numbers, for every leaf of the parameters.

    Inside of `jax.shard_map` each device knows its own rows of a leaf that is split
    over an axis; of a leaf that is whole everywhere it knows all. Types tell which.

    Args:
        parts: one for every leaf.
        axis_name: of the mesh; what is split over it is added up. None: nothing is.

    Raises:
        ValueError: none of the parts is split over the axis, as far as types tell.
    """
    if axis_name is None:
        return sum(parts[1:], parts[0])
    axes = {axis_name} if isinstance(axis_name, str) else set(axis_name)
    sums: dict[frozenset[str], Array] = {}
    for part in parts:
        over = varying_axes(jax.typeof(part)) & axes
        sums[over] = sums[over] + part if over in sums else part
    if not any(sums):
        raise ValueError(
            f"axis_name: expected parameters that are split over {axis_name!r}, got "
            "none whose type says so; types do not tell under jax.pmap and "
            "shard_map(check_vma=False): add up hw.gramian(grads) there by "
            "jax.lax.psum"
        )
    wholes = [
        lax.psum(x, tuple(sorted(over))) if over else x for over, x in sums.items()
    ]
    return sum(wholes[1:], wholes[0])


def safe_power(base: Array, exponent: float | Array) -> Array:
    """base^exponent for base >= 0, exponent >= 0, with a finite slope at base = 0.

    0^0 is 1. The slope of x^0.5 at 0 is infinite, here 0: a loss at its minimum there
    must not turn that into NaN.
    """
    exponent = jnp.asarray(exponent, base.dtype)
    zero = base <= 0
    power = jnp.power(jnp.where(zero, jnp.ones_like(base), base), exponent)
    at_zero = jnp.where(exponent == 1, base, jnp.where(exponent == 0, 1.0, 0.0))
    return jnp.where(zero, at_zero.astype(power.dtype), power)
