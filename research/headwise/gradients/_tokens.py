"""Equations that do the same, whatever they take.

Two equations are alike if they have one primitive with parameters that mean the same,
and results of one type. Where a slice starts is data, so that columns are alike.

Example:
    >>> from headwise.gradients import _tokens
    >>> eqns = jax.make_jaxpr(lambda x: (x[1:3], x[2:4], x[2:5]))(jnp.ones(6)).eqns
    >>> [_tokens.as_slice(eqn, 0).starts for eqn in eqns]
    [(1,), (2,), (2,)]
    >>> eqns = jax.make_jaxpr(lambda x, y: (x * y, y * y, x + y))(1.0, 2.0).eqns
    >>> product, square, total = map(_tokens.token, eqns)
    >>> product == square, product == total
    (True, False)
"""

import functools
import types
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
from jax.extend import core

from headwise import _xla
from headwise.gradients import _equations
from headwise.gradients._equations import Var


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


def as_slice(eqn: Any, result: int) -> Any:
    """The equation, as a `Slice` where one of its results is one."""
    params = eqn.params
    if eqn.primitive.name == "slice" and (
        params["strides"] is None or set(params["strides"]) <= {1}
    ):
        return Slice(eqn.invars[0], eqn.outvars[0], tuple(params["start_indices"]))
    if eqn.primitive.name == "split":
        starts = [0] * eqn.invars[0].aval.ndim
        starts[params["axis"]] = int(sum(params["sizes"][:result]))
        return Slice(eqn.invars[0], eqn.outvars[result], tuple(starts))
    return eqn


def token(eqn: Any) -> tuple:
    """What is equal for equations that do the same, whatever they take."""
    results = tuple((v.aval.shape, str(v.aval.dtype)) for v in eqn.outvars)
    effects = id(eqn) if eqn.effects else 0  # what has effects is like nothing else
    return (eqn.primitive, effects, results, _described(eqn.params))


_ALONE = {
    *("cond", "while", "ffi_call", "pallas_call", "pure_callback", "io_callback"),
    *("cholesky", "eig", "eigh", "geqrf", "householder_product", "lu", "schur", "svd"),
    *("triangular_solve", "tridiagonal_solve", "rng_bit_generator", "rng_uniform"),
    *("random_bits", "random_gamma", "random_seed", "threefry2x32"),
}
"""What a stack does not do as one after the other does it, or not as fast."""


def worth_a_stack(steps: Sequence[Any], made: Collection[Var]) -> bool:
    """Whether one program for many heads costs no more than theirs one by one.

    Large arrays of each head's own (decoders) would be copied to be side by side.

    Args:
        steps: an equation or slice of each head, alike.
        made: the variables that are computed; what else they take is from outside.
    """
    nbytes = len(steps) * sum(map(_equations.nbytes, steps[0].outvars))
    pairs = zip(steps[0].invars, steps[1].invars, strict=True)
    outside = [
        a
        for a, b in pairs
        if a is not b and not _equations.is_literal(a) and a not in made
    ]
    large = any(v.aval.size >= _xla.PAIRWISE_SIZE for v in outside)
    return nbytes <= _xla.KEPT_BYTES and not large and _runs_as_stack(steps[0])


def _runs_as_stack(step: Any) -> bool:
    """Whether a stack does it as one after the other does, and as fast."""
    if isinstance(step, Slice):
        return True
    if step.primitive.name in _ALONE or step.effects:
        return False
    if not _xla.loops_over_convolutions() and _xla.convolves(step):
        return False
    programs = core.jaxprs_in_params(step.params)
    return all(_runs_as_stack(inner) for program in programs for inner in program.eqns)


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
        lines.append((token(eqn), taken, name(eqn.outvars)))
    return (*lines, tuple(map(named, program.outvars)))
