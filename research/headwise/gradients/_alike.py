"""Which heads run the same program on other data.

Two lists of equations are alike if they have the same primitives, shapes and wiring.
What they take from outside is data, and so are numbers written into them and where
slices start. Of the columns of one output::

    a = out[:, 0:1]   b = squeeze(a)   c = 3.0 * b
    d = out[:, 1:2]   e = squeeze(d)   f = 5.0 * e         starts 0, 1; factors 3.0, 5.0

Example:
    >>> from headwise.gradients import _alike, _linear
    >>> plain = lambda p: ({"a": 3.0 * p[0], "b": 5.0 * p[1], "c": jnp.sin(p[2])}, None)
    >>> _, _, linear = _linear.linearize(plain, [2.0, 3.0, 7.0])
    >>> groups = _alike.alike(_alike.paths(linear), least=1)
    >>> [[path.head for path in group] for group in groups]
    [[0, 1], [2]]
"""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from jax.extend import core

from headwise.gradients import _linear
from headwise.gradients import _tokens
from headwise.gradients._equations import Var


class Path(NamedTuple):
    """Equations that lead to the value of a head, and how they are wired."""

    head: int
    output: Var
    steps: tuple[Any, ...]
    """Equations, and slices in place of splits."""
    shape: tuple[int, ...]
    """Equal for heads that are alike."""
    taken: tuple[Any, ...]
    """Variables from outside and written numbers, in the order of their first use."""
    starts: tuple[tuple[int, ...], ...]
    """Of every slice."""


def paths(linear: _linear.Linear, private: bool = False) -> list[Path]:
    """Of each head: all that leads to its value, or what leads to that alone."""
    ids: dict[Any, int] = {}
    tokens: dict[int, int] = {}
    found = []
    for h, value in enumerate(linear.values):
        if value is None:
            continue
        if private:
            pairs = zip(linear.equations, linear.groups, strict=True)
            equations = [eqn for eqn, group in pairs if group == 1 << h]
        else:
            equations = [
                eqn
                for eqn in linear.equations
                if any(linear.heads.get(v, 0) >> h & 1 for v in eqn.outvars)
            ]
        if equations and any(value in eqn.outvars for eqn in equations):
            found.append(_path(linear, h, equations, ids, tokens))
    return found


def alike(paths: Iterable[Path], least: int) -> list[list[Path]]:
    """Groups of at least so many paths of one shape."""
    groups: dict[tuple[int, ...], list[Path]] = {}
    for path in paths:
        groups.setdefault(path.shape, []).append(path)
    return [group for group in groups.values() if len(group) >= least]


def _path(
    linear: _linear.Linear,
    head: int,
    equations: Sequence[Any],
    ids: dict[Any, int],
    tokens: dict[int, int],
) -> Path:
    number: dict[Var, int] = {}
    shape: list[int] = []
    taken: list[Any] = []
    starts: list[tuple[int, ...]] = []
    steps: list[Any] = []

    def known_as(token: Any) -> int:
        return ids.setdefault(token, len(ids))

    for eqn in equations:
        step = _as_slice(eqn, linear, head)
        steps.append(step)
        if isinstance(step, _tokens.Slice):
            starts.append(step.starts)
            shape.append(known_as(("slice", step.out.aval.shape)))
        else:
            if id(eqn) not in tokens:
                tokens[id(eqn)] = known_as(_tokens.token(eqn))
            shape.append(tokens[id(eqn)])
        for atom in step.invars:
            if isinstance(atom, core.Literal) or atom not in number:
                literal = isinstance(atom, core.Literal)
                kind = "literal" if literal else atom in linear.known
                shape.append(known_as((kind, atom.aval.shape, str(atom.aval.dtype))))
                taken.append(atom)
                if not literal:
                    number[atom] = len(number)
            else:
                shape.append(-1 - number[atom])
        for v in step.outvars:
            number[v] = len(number)
    output = linear.values[head]
    shape.append(number[output])
    return Path(head, output, tuple(steps), tuple(shape), tuple(taken), tuple(starts))


def _as_slice(eqn: Any, linear: _linear.Linear, head: int) -> Any:
    """The equation, as a `Slice` where it is one for this head."""
    mine = [i for i, v in enumerate(eqn.outvars) if linear.heads.get(v, 0) >> head & 1]
    return _tokens.as_slice(eqn, mine[0]) if len(mine) == 1 else eqn
