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

import functools
import types
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
from jax.extend import core

from headwise.gradients import _linear
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


class Slice(NamedTuple):
    """A block of an array: an equation `slice`, or one result of a `split`."""

    operand: Any
    out: Var
    starts: tuple[int, ...]

    @property
    def invars(self) -> list[Any]:
        """As an equation has them."""
        return [self.operand]

    @property
    def outvars(self) -> list[Var]:
        """As an equation has them."""
        return [self.out]


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
        if isinstance(step, Slice):
            starts.append(step.starts)
            shape.append(known_as(("slice", step.out.aval.shape)))
        else:
            if id(eqn) not in tokens:
                tokens[id(eqn)] = known_as(_token(eqn))
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
    params = eqn.params
    if eqn.primitive.name == "slice" and (
        params["strides"] is None or set(params["strides"]) <= {1}
    ):
        return Slice(eqn.invars[0], eqn.outvars[0], tuple(params["start_indices"]))
    if eqn.primitive.name == "split":
        mine = [
            i for i, v in enumerate(eqn.outvars) if linear.heads.get(v, 0) >> head & 1
        ]
        if len(mine) == 1:
            starts = [0] * eqn.invars[0].aval.ndim
            starts[params["axis"]] = sum(params["sizes"][: mine[0]])
            return Slice(eqn.invars[0], eqn.outvars[mine[0]], tuple(starts))
    return eqn


def _token(eqn: Any) -> tuple:
    results = tuple((v.aval.shape, str(v.aval.dtype)) for v in eqn.outvars)
    effects = id(eqn) if eqn.effects else 0  # what has effects is like nothing else
    return (eqn.primitive, effects, results, _described(eqn.params))


def _described(value: Any) -> Any:
    """What is equal for parameters of equations that mean the same."""
    describe = _DESCRIBED.get(type(value))
    if describe is not None:
        return (type(value), describe(value))
    if isinstance(value, core.ClosedJaxpr):
        return ("closed", _program(value.jaxpr), tuple(map(id, value.consts)))
    if isinstance(value, core.Jaxpr):
        return ("open", _program(value))
    if isinstance(value, jax.Array):
        return ("array", id(value))
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return (type(value), value)


def _several(values: Iterable[Any]) -> tuple:
    return tuple(map(_described, values))


def _function(function: types.FunctionType) -> tuple:
    """Made by one `def` with the same things closed over."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    keywords = function.__kwdefaults__
    return (
        function.__code__,
        *map(_described, (function.__defaults__, keywords, cells)),
    )


_DESCRIBED: dict[type, Any] = {
    dict: lambda value: tuple((k, _described(v)) for k, v in sorted(value.items())),
    list: _several,
    tuple: _several,
    types.FunctionType: _function,
    np.ndarray: lambda value: (value.shape, str(value.dtype), value.tobytes()),
}


@functools.lru_cache(maxsize=1024)
def _program(program: core.Jaxpr) -> tuple:
    """The equations of a program inside an equation, variables by number."""
    number: dict[Var, int] = {}

    def named(atom: Any) -> Any:
        if isinstance(atom, core.Literal):
            value = np.asarray(atom.val)
            return (value.tobytes(), value.shape, str(value.dtype))
        return number[atom]

    def name(variables: Sequence[Var]) -> tuple:
        for v in variables:
            number[v] = len(number)
        return tuple(
            (getattr(v.aval, "shape", None), str(getattr(v.aval, "dtype", v.aval)))
            for v in variables
        )

    lines: list[Any] = [name([*program.constvars, *program.invars])]
    for eqn in program.eqns:
        taken = tuple(map(named, eqn.invars))
        lines.append((_token(eqn), taken, name(eqn.outvars)))
    return (*lines, tuple(map(named, program.outvars)))
