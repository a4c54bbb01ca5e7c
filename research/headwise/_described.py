"""A pytree in words: its leaves by name, the types of its states, what the user set."""

import hashlib
import re
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _trees
from headwise.typing import PyTree

Description = dict[str, dict[str, str]]
"""{"types": {name: "ConstantState"}, "leaves": {name: "float32[3]"}}: plain JSON."""

_CONTAINERS = (tuple, list, dict, type(None))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SHOWN = 10


def names(tree: PyTree) -> list[str]:
    """A name for every leaf, in the order of the leaves, no two alike.

    The parts of its path, joined by "/". Where keys that hold a "/" would make two of
    them the same, it is written as "%2F".
    """
    return _trees.joined([node.path for node in _nodes(tree) if node.leaf])


def describe(tree: PyTree) -> Description:
    """What a tree is, without its numbers."""
    types = {}
    for node in _nodes(tree):
        if _is_named(node.value):
            types["/".join(node.path)] = type(node.value).__name__
        elif node.empty and type(node.value) not in _CONTAINERS:
            types["/".join(node.path)] = _static(node.value)
    return {
        "types": types,
        "leaves": dict(zip(names(tree), map(_array, jax.tree.leaves(tree)))),
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions, a line each.

    Below a state of another type nothing more is said.
    """
    lines: list[str] = []
    others: list[str] = []
    for part in ("types", "leaves"):
        old, new = saved[part], now[part]
        for name in [*new, *(name for name in old if name not in new)]:
            was, is_ = old.get(name, "nothing"), new.get(name, "nothing")
            if was == is_ or any(_below(name, other) for other in others):
                continue
            lines.append(f"{name or 'state'}: {was} in the checkpoint, {is_} now")
            if part == "types":
                others.append(name)
    return lines


def listing(lines: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more} more"] if more > 0 else list(lines)


def is_setting(tree: PyTree) -> list[bool]:
    """Which leaves hold what the user set, in their order.

    A state says so itself: a NamedTuple whose class has `settings`, names of fields.
    """
    return [node.setting for node in _nodes(tree) if node.leaf]


class _Node(NamedTuple):
    path: tuple[str, ...]
    value: Any
    leaf: bool
    empty: bool
    """Neither a leaf nor a node with children."""
    setting: bool


def _nodes(node: Any, path: tuple[str, ...] = (), setting: bool = False) -> Iterator:
    """Every node and leaf of a tree, from the top."""
    flat, _ = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda x: x is not node
    )
    leaf = len(flat) == 1 and not flat[0][0]
    yield _Node(path, node, leaf, not flat, setting)
    settings = getattr(type(node), "settings", ()) if _is_named(node) else ()
    for key, child in [] if leaf else flat:
        part = _trees.part(key[0])
        yield from _nodes(child, (*path, part), setting or part in settings)


def _is_named(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(type(node), "_fields")


def _below(name: str, other: str) -> bool:
    return not other or name == other or name.startswith(f"{other}/")


def _static(x: Any) -> str:
    """Data that are part of the tree's structure, such as names of heads."""
    extra = vars(x) if isinstance(x, tuple) and hasattr(x, "__dict__") else {}
    parts = [repr(x), *(f"{name}={extra[name]!r}" for name in sorted(extra))]
    text = _ADDRESS.sub("", " ".join(parts))
    return text if len(text) < 200 else hashlib.sha256(text.encode()).hexdigest()


def _array(x: Any) -> str:
    dtype = x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
    return f"{dtype}[{','.join(map(str, np.shape(x)))}]"
