"""How parameters and batches lie on a mesh of devices; the rest is what JAX does.

A mesh has named axes (`jax.make_mesh((2, 2), ("data", "model"))`). Examples are split
over one, large parameters over another or the same; a jitted step does the rest.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from headwise import _checks
from headwise import _hosts
from headwise import _trees
from headwise.typing import PyTree


def fsdp_shardings(
    params: PyTree,
    mesh: Mesh,
    axis: str | tuple[str, ...] = "data",
    *,
    least: int = 1024,
) -> PyTree:
    """Where each parameter lies if every device shall hold a part of it (FSDP).

    An array is split along its longest axis of those that the devices divide (the first
    of several); it lies whole on each device if there is none, or if it is small.

    Args:
        params: pytree of arrays, or of `jax.ShapeDtypeStruct` (`jax.eval_shape`).
        mesh: of devices.
        axis: of the mesh, or several.
        least: smaller arrays, of fewer entries, are not split.

    Returns:
        A pytree of `NamedSharding`, for `jax.device_put(params, ...)` or
        `jax.jit(init, out_shardings=...)`, which never holds them on one device.

    Raises:
        ValueError: the mesh has no such axis; `least` is no positive int.

    Example:
        >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
        >>> params = {"kernel": jnp.zeros((3, 512)), "bias": jnp.zeros(512)}
        >>> places = hw.training.fsdp_shardings(params, mesh, "model")
        >>> print(tuple(places["kernel"].spec), tuple(places["bias"].spec))
        (None, 'model') ()

    References:
        Zhao et al., "PyTorch FSDP", VLDB 2023; Rajbhandari et al., "ZeRO", SC 2020.
    """
    number, least = _devices(mesh, axis), _checks.positive_int("least", least)

    def place(x: Any) -> NamedSharding:
        shape = _array("params", x).shape
        fits = [i for i, n in enumerate(shape) if n and n % number == 0]
        if not fits or math.prod(shape) < least:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(fits, key=lambda i: shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, axis))

    return jax.tree.map(place, params)


def shard_batch(
    batch: PyTree, mesh: Mesh, axis: str | tuple[str, ...] = "data"
) -> PyTree:
    """The batch with its examples split over an axis of a mesh, an equal part a device.

    Of several processes each gives the part of the batch that it has read, as large as
    that of any other, and gets the whole one, in their order. In a traced function the
    batch is whole, and the same for all.

    Args:
        batch: pytree of arrays of JAX or NumPy with the examples along the leading
            axis; a number lies whole on each device. May be traced.
        mesh: of devices.
        axis: of the mesh, or several.

    Returns:
        The same, of JAX arrays.

    Raises:
        ValueError: the devices do not divide a leading axis; the mesh has no such axis;
            the parts of processes differ in shape.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> batch = hw.training.shard_batch({"x": np.ones((4, 2))}, mesh)
        >>> print(tuple(batch["x"].sharding.spec))
        ('data',)
    """
    number = _devices(mesh, axis)
    hosts = len({device.process_index for device in mesh.devices.flat})
    paths = _trees.joined(_trees.paths(batch))
    leaves, structure = jax.tree.flatten(batch)
    own = number
    if hosts > 1:
        _check_parts(batch, mesh)
        whole = NamedSharding(mesh, PartitionSpec(axis))
        indices = whole.addressable_devices_indices_map((number,)).values()
        own = len({index[0].start for index in indices if index})  # in this process

    def put(path: str, x: Any) -> jax.Array:
        x = _array("batch", x)
        shape = x.shape
        traced = isinstance(x, jax.core.Tracer)
        among = number if traced else own
        if shape and shape[0] % among:
            where = f" at '{path}'" if path else ""
            of_own = " of this process" if among < number else ""
            raise ValueError(
                f"batch: expected a leading axis that the {among} devices{of_own} of "
                f"mesh axis {axis!r} divide, got shape {shape}{where}"
            )
        place = NamedSharding(mesh, PartitionSpec(*[axis][: len(shape)]))
        if traced:
            explicit = AxisType.Explicit in mesh.axis_types
            change = jax.sharding.reshard if explicit else lax.with_sharding_constraint
            return change(x, place)
        if hosts == 1:
            return jax.device_put(x, place)
        return jax.make_array_from_process_local_data(place, np.asarray(x))

    return jax.tree.unflatten(structure, list(map(put, paths, leaves)))


_SAME: set[Any] = set()
"""Shapes of parts that all processes have given at the same time."""


def _check_parts(batch: PyTree, mesh: Mesh) -> None:
    """Raises ValueError, in all processes, where the shapes of their parts differ.

    All come here with the first of some shape, and later ones cost nothing.
    """
    leaves, structure = jax.tree.flatten(batch)
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
        return
    mine = f"{structure}", tuple(map(np.shape, leaves))
    if (mine, mesh) in _SAME:
        return
    of_all = _hosts.gathered(mine)
    if len(set(of_all)) > 1:
        shapes = "; ".join(
            f"process {i}: {', '.join(map(str, shapes)) or 'none'}"
            for i, (_, shapes) in enumerate(of_all)
        )
        raise ValueError(
            f"batch: expected parts of the same shapes from all processes, got {shapes}"
        )
    _SAME.add((mine, mesh))


def _devices(mesh: Mesh, axis: str | tuple[str, ...]) -> int:
    """How many parts an array has that is split over the axis."""
    if not isinstance(mesh, Mesh):
        got = _checks.kind(mesh)
        raise TypeError(f"mesh: expected a jax.sharding.Mesh, got {got}")
    axes = axis if isinstance(axis, tuple) else (axis,)
    for name in axes:
        _checks.choice("axis", list(mesh.axis_names), name)
    return math.prod(mesh.shape[name] for name in axes)


def _array(argument: str, x: Any) -> Any:
    """A leaf as something that has a shape; raises TypeError if it is no array."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    kinds = (np.number, np.bool_, jax.dtypes.prng_key)
    if not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
        raise TypeError(f"{argument}: expected arrays of numbers, got {x.dtype}")
    return x


def compiled(step: Any, state: PyTree) -> Any:
    """The step of `(state, batch)`, jitted, its state donated and given back in place.

    A compiler that is not told where the parts of a state lie chooses, and may choose
    otherwise for the next step, which is another program then. What lies on one device
    needs no word.
    """
    places = _places(state)
    if places is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(step, donate_argnums=0, out_shardings=(places, None))


def _places(state: PyTree) -> PyTree | None:
    """Where each array lies, if any lies on several devices; None: none does."""

    def place(x: Any) -> Any:
        return x.sharding if getattr(x, "committed", False) else None

    places = jax.tree.map(place, state)
    wide = [len(p.device_set) > 1 for p in jax.tree.leaves(places)]
    return places if any(wide) else None
