"""Names for the leaves of a parameter pytree, and their grouping by module."""

import collections
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _frameworks
from headwise.typing import PyTree


def part(key: Any) -> str:
    """One step of a path as text: a key, the name of a field, an index."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def paths(tree: PyTree) -> list[tuple[str, ...]]:
    """The path of every leaf as a tuple of strings, in the order of its leaves.

    A trailing `value` that is all its node holds is dropped: it is how NNX and Linen
    box a parameter.
    """
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = [tuple(part(key) for key in path) for path, _ in flat]
    children = collections.Counter(
        parent for parent, _ in {(p[:i], p[i]) for p in named for i in range(len(p))}
    )
    return [
        p[:-1] if len(p) > 1 and p[-1] == "value" and children[p[:-1]] == 1 else p
        for p in named
    ]


def common_prefix(paths: list[tuple[str, ...]]) -> int:
    """How many leading path parts say nothing, since all leaves share them."""
    length = 0
    while all(len(path) > length + 2 for path in paths) and (
        len({path[length] for path in paths}) == 1
    ):
        length += 1
    return length if paths else 0


def strong(x: Any) -> jax.Array:
    """A leaf as a JAX array of its dtype: numbers and arrays of NumPy are copied."""
    if not isinstance(x, jax.Array):
        x = jnp.array(x)
    # A number's type gives way to that of others (it is weak); a checkpoint forgets it.
    weak = getattr(x, "weak_type", False)
    return jax.lax.convert_element_type(x, x.dtype) if weak else x


def copied(tree: PyTree) -> PyTree:
    """The tree with arrays of its own, where the others lie.

    The device copies them; `jnp.copy` would have a program compiled for every shape.
    """

    def own(x: Any) -> jax.Array:
        moves = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
        # Neither keys, whose shards JAX (0.10, 0.12) gathers, nor what has more hosts.
        if moves and x.is_fully_addressable and not _are_keys(x):
            return jax.device_put(x, may_alias=False)
        return jnp.copy(x)

    return jax.tree.map(own, tree)


def _are_keys(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def separate(tree: PyTree) -> PyTree:
    """The tree with a copy where an array shares its memory with one before it.

    A compiled step may then be given all leaves for good (donation).
    """
    seen: set[Any] = set()

    def own(x: Any) -> Any:
        places = _places(x)
        if places & seen:
            return copied(x)
        seen.update(places)
        return x

    return jax.tree.map(own, tree)


def _places(x: Any) -> set[Any]:
    """Where an array lies in memory."""
    if isinstance(x, jax.core.Tracer):
        return {id(x)}
    if not isinstance(x, jax.Array) or not x.size:
        return set()
    if _are_keys(x):
        x = jax.random.key_data(x)
    try:
        shards = x.addressable_shards
        return {(shard.device, shard.data.unsafe_buffer_pointer()) for shard in shards}
    except RuntimeError:  # deleted, or a backend that does not tell
        return {id(x)}


def structure(tree: PyTree) -> Any:
    """The tree's structure, comparable with ==."""
    return jax.tree.structure(tree)


def joined(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Paths as text: their parts joined by "/", so that no two paths are alike.

    Where parts that hold a "/" would make two of them the same, it is written as "%2F".
    """
    texts = ["/".join(path) for path in paths]
    if len(set(texts)) < len(set(paths)):
        safe = [[p.replace("%", "%25").replace("/", "%2F") for p in q] for q in paths]
        texts = ["/".join(path) for path in safe]
    return texts


def modules(
    tree: PyTree, depth: int | None = None, kinds: Sequence[Hashable] | None = None
) -> list[str]:
    """The module that each leaf belongs to, in the order of the leaves.

    It is the leaf's path without its last part (`trunk/0` for `trunk/0/kernel`), cut
    to the first `depth` parts if given. A leaf at the top is its own module.

    Args:
        tree: the parameters.
        depth: None or a positive int.
        kinds: of the leaves. A module whose leaves are of several kinds is split into
            its parts, until each is of one kind. None: all are alike.

    Raises:
        ValueError: `depth` is no positive int.
    """
    if depth is not None:
        depth = _checks.positive_int("depth", depth)
    of_leaves = paths(tree)
    start = common_prefix(of_leaves)
    of_leaves = [path[start:] for path in of_leaves]
    groups = [(path[:-1] or path)[:depth] for path in of_leaves]
    if kinds is not None:
        groups = _split(groups, of_leaves, kinds)
    return [name or "params" for name in joined(groups)]


def _split(
    groups: list[tuple[str, ...]],
    paths: list[tuple[str, ...]],
    kinds: Sequence[Hashable],
) -> list[tuple[str, ...]]:
    """Groups of leaves, beginnings of their paths: longer ones where kinds differ."""
    while True:
        pairs = set(zip(groups, kinds, strict=True))
        number = collections.Counter(group for group, _ in pairs)
        finer = [
            path[: len(group) + 1] if number[group] > 1 else group
            for group, path in zip(groups, paths, strict=True)
        ]
        if finer == groups:
            return groups
        groups = finer


def check_floating(argument: str, tree: PyTree) -> None:
    """Raises unless the tree has leaves and all are floating or complex arrays.

    A module of NNX must hold parameters alone: running statistics would be trained.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        raise ValueError(f"{argument}: expected parameters, got a tree without leaves")
    state = _frameworks.state(tree)
    if state is not None:
        path, kind = state
        _refuse(f"{argument}: expected parameters alone", kind, map(part, path), tree)
    for path, leaf in zip(paths(tree), leaves, strict=True):
        dtype = _dtype(leaf)
        if dtype is None:
            _refuse(f"{argument}: expected arrays", type(leaf).__name__, path, tree)
        elif not jnp.issubdtype(dtype, jnp.inexact):
            _refuse(f"{argument}: expected floating arrays", dtype, path, tree)


def check_arrays(argument: str, tree: PyTree) -> None:
    """Raises unless all leaves are arrays, or numbers that an array can hold."""
    for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True):
        if isinstance(leaf, jax.Array):
            continue
        where = f" at '{'/'.join(path)}'" if path else ""
        if isinstance(leaf, int) and not _fits(leaf):
            raise ValueError(
                f"{argument}: expected ints of {jnp.result_type(int)}, got one of "
                f"{leaf.bit_length()} bits{where}"
            )
        if _dtype(leaf) is None:
            raise TypeError(
                f"{argument}: expected arrays and numbers, got "
                f"{type(leaf).__name__}{where}"
            )


def _fits(number: int) -> bool:
    try:
        jnp.asarray(number)
    except OverflowError:
        return False
    return True


def _dtype(leaf: Any) -> Any:
    """The type of a number or an array; None for all else, arrays of others too."""
    if not hasattr(leaf, "dtype") and not isinstance(leaf, float | int | complex):
        return None
    try:
        return jnp.result_type(leaf)
    except (TypeError, ValueError):
        return None


def _refuse(expected: str, got: Any, path: Iterable[str], tree: PyTree) -> None:
    where = "/".join(path)
    at = f" at '{where}'" if where else ""
    raise TypeError(f"{expected}, got {got}{at}; {_frameworks.way_out(tree)}")


def check_optimizer_state(
    argument: str, optimizer: Any, state: Any, params: PyTree, hint: str = ""
) -> None:
    """Raises ValueError unless a state is the optimiser's, of these parameters."""
    expected = structure(jax.eval_shape(optimizer.init, params))
    if structure(state) != expected:
        raise ValueError(
            f"{argument}: expected what optimizer.init(params) returns ({expected}), "
            f"got {structure(state)}{hint}"
        )


def mask_by(tree: PyTree, flags: PyTree) -> PyTree:
    """The tree with the leaves whose flag is False set to zero."""
    return jax.tree.map(lambda x, keep: x if keep else jnp.zeros_like(x), tree, flags)


def selected(argument: str, choice: Any, tree: PyTree) -> list[bool]:
    """Which leaves a user means: by a predicate on their path, or by a prefix of flags.

    Args:
        argument: its name, for the error text.
        choice: a callable that gets the path as text (`trunk/0/kernel`), or a pytree of
            bool that is a prefix of the tree; None means all.
        tree: the parameters.

    Raises:
        TypeError, ValueError: neither of them; nothing is selected.
    """
    named = ["/".join(path) for path in paths(tree)]
    if choice is None:
        return [True] * len(named)
    if callable(choice) and not _holds_flags(choice):
        flags = [bool(choice(name)) for name in named]
    else:
        try:
            flags = jax.tree.leaves(jax.tree.broadcast(choice, tree))
        except ValueError as error:
            raise ValueError(
                f"{argument}: expected a predicate on paths or a prefix of the "
                f"parameters' tree, got {jax.tree.structure(choice)}"
            ) from error
        for flag in flags:
            if not isinstance(flag, bool | np.bool_):
                raise TypeError(
                    f"{argument}: expected a predicate on paths or a pytree of bool, "
                    f"got {type(flag).__name__}"
                )
    if not any(flags):
        raise ValueError(
            f"{argument}: selects no parameter; their paths are {named[:8]}"
            + (" and more" if len(named) > 8 else "")
        )
    return [bool(flag) for flag in flags]


def _holds_flags(choice: Any) -> bool:
    """Whether it is a tree of bool, even if it can be called (a module of Equinox)."""
    leaves = jax.tree.leaves(choice)
    return bool(leaves) and all(isinstance(leaf, bool | np.bool_) for leaf in leaves)


def chosen(leaves: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """The leaves whose flag is True."""
    return [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag]
