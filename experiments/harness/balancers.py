"""`--balancer=NAME:ARGUMENT=VALUE,...`: any factory of `hw.balancers`, from a text.

    mgda                                    without arguments
    cagrad:c=0.4,rescale=square               numbers and words, typed by the signature
    epo:preferences=left:1;right:2          a value for every head
    every:k=5,balancer=(cagrad:c=0.4)       around another balancer

Names and types are read off the factories: a new one can be run at once.
"""

import inspect
import types
import typing
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import optax

import headwise as hw
from experiments.harness import text
from experiments.harness.text import UsageError

FLAG = "--balancer"


def names() -> list[str]:
    """The factories that can be asked for, wrappers last."""
    b = hw.balancers
    return sorted(b.FROM_VALUES + b.FROM_GRAMIAN + b.FROM_GRADIENTS) + [*b.WRAPPERS]


def make(words: str, heads: Sequence[str]) -> hw.balancers.Balancer:
    """The balancer of a text, checked against the heads.

    Args:
        words: as above.
        heads: names of the heads.

    Raises:
        UsageError: an unknown name or argument, a value of the wrong type, or what
            the factory refuses.
    """
    name, colon, rest = (piece.strip() for piece in words.partition(":"))
    if words.count("(") != words.count(")"):
        raise UsageError(f"{FLAG}: expected as many ( as ) in {words}")
    known = text.choice(FLAG, names(), name, listed="docs/guides/balancers.md")
    factory = getattr(hw.balancers, known)
    parameters = inspect.signature(factory).parameters
    given = text.pairs(f"{FLAG}={name}", rest) if colon else {}
    text.known_names(f"{FLAG}={name}", given, parameters)
    hints = typing.get_type_hints(factory)
    kinds = {argument: _kinds(hints[argument]) for argument in parameters}
    missing = [
        f"{argument}={_expected(kinds[argument])}"
        for argument, parameter in parameters.items()
        if parameter.default is parameter.empty and argument not in given
    ]
    if missing:
        raise UsageError(f"{FLAG}={name}: expected {', '.join(missing)} as well")
    try:
        values = {
            argument: _value(
                f"{FLAG}={name}: {argument}", kinds[argument], value, heads
            )
            for argument, value in given.items()
        }
        balancer = factory(**values)
        balancer.init(heads, {"w": jnp.zeros(())})
    except UsageError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{FLAG}={name}: {error}") from error
    except RecursionError:
        raise UsageError(f"{FLAG}: expected fewer ( in each other") from None
    return balancer


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a type hint: `float | None` as (float, NoneType)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _kinds(part))
    return (typing.get_origin(hint) or hint,)


def _value(flag: str, kinds: tuple, words: str, heads: Sequence[str]) -> Any:
    """The text as a value of the first of these kinds that it can be.

    A mapping by head has a colon, a balancer has parentheses or is all that may come;
    a function or an optimizer cannot be written on a command line.
    """
    if type(None) in kinds and words.lower() == "none":
        return None
    if Mapping in kinds and ":" in words:
        by_head = text.pairs(flag, words, mark=":", separator=";")
        kind = str if str in kinds else float
        return {name: _plain(flag, (kind,), value) for name, value in by_head.items()}
    if hw.balancers.Balancer in kinds:
        return make(words.removeprefix("(").removesuffix(")"), heads)
    return _plain(flag, kinds, words)


def _plain(flag: str, kinds: tuple, words: str) -> Any:
    """The text as a bool, int, float or str, whichever of these may come."""
    readers: dict[type, Callable[[str], Any]]
    readers = {bool: _boolean, int: int, float: float, str: str}
    for kind, read in readers.items():
        if kind in kinds:
            try:
                return read(words)
            except ValueError:
                continue
    code = {Callable, optax.GradientTransformation} & {*kinds}
    cannot = " (from code: no flag can hold one)" if code else ""
    raise UsageError(f"{flag}: expected {_expected(kinds)}{cannot}; got {words}")


def _boolean(words: str) -> bool:
    if words.lower() not in ("true", "false"):
        raise ValueError(words)
    return words.lower() == "true"


def _expected(kinds: tuple) -> str:
    """What may come, for an error text."""
    known = {
        bool: "true|false",
        int: "INT",
        float: "NUMBER",
        str: "WORD",
        type(None): "none",
        Mapping: "HEAD:NUMBER;HEAD:NUMBER",
        Callable: "a function",
        hw.balancers.Balancer: "(BALANCER)",
        optax.GradientTransformation: "an optimizer of optax",
    }
    return "|".join(known[kind] for kind in kinds if kind in known)
