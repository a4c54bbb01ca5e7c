"""Whether a function draws from something that changes: an iterator, a generator."""

import functools
import inspect
import random
import types
from typing import Any

import numpy as np

_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


def draws(thing: Any, root: str | None = None, depth: int = 5) -> bool:
    """Whether an iterator or a random generator is in reach of a function.

    A trace that fails half-way would have taken something from it.
    """
    if isinstance(thing, _GENERATORS) or hasattr(type(thing), "__next__"):
        return True
    if not depth:
        return False
    if root is None:
        root = _root(thing)
    return any(draws(part, root, depth - 1) for part in _reached(thing, root))


def _reached(thing: Any, root: str) -> list[Any]:
    """What a function holds, and what it takes from its module."""
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, list | tuple | dict):
        return [*(thing.values() if isinstance(thing, dict) else thing)][:16]
    if isinstance(thing, types.MethodType):
        return [thing.__func__, *getattr(thing.__self__, "__dict__", {}).values()]
    if not callable(thing) or isinstance(thing, type) or _root(thing) != root:
        return []
    inner = inspect.unwrap(thing)
    if not isinstance(inner, types.FunctionType):
        return [*getattr(inner, "__dict__", {}).values()]
    cells = [cell.cell_contents for cell in inner.__closure__ or () if _full(cell)]
    names = [name for name in inner.__code__.co_names if name in inner.__globals__]
    given = [*(inner.__defaults__ or ()), *(inner.__kwdefaults__ or {}).values()]
    return [*cells, *(inner.__globals__[name] for name in names), *given]


def _root(thing: Any) -> str:
    """The package that it comes from; nothing is searched in others."""
    return str(getattr(thing, "__module__", None)).partition(".")[0]


def _full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
