"""What many heads have kept, and their values, computed for all of them together.

The linear program of a model takes from the forward pass what that has kept, head by
head. Where heads are alike, so is what leads to it: the model is traced to the program
of its forward pass (`_forward`), and the stacks of heads (`_stacks`) get their data
from that. The other way stays there; compilers drop what nobody uses.

Example:
    >>> from headwise.gradients import _linear, _together
    >>> def plain(p):
    ...     return {f"y{h:02}": jnp.sin(p[h]) for h in range(16)}, None
    >>> def f(p):
    ...     _, _, linear = _together.together([p], lambda: _linear.run(plain, p))
    ...     return list(linear.rows.values())
    >>> print(*jax.jit(f)(jnp.zeros(16)))
    [1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1.]
"""

import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from headwise import _xla
from headwise.gradients import _alike
from headwise.gradients import _equations
from headwise.gradients import _forward
from headwise.gradients import _linear
from headwise.typing import Array

Run = Callable[[], tuple[dict[str, Array], Any, core.ClosedJaxpr]]
"""A linearisation: values, aux, the program of tangents."""

_UNKNOWN = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What is raised where Python asks for a number of a trace."""


def together(
    leaves: Sequence[Array], run: Run
) -> tuple[dict[str, Array], Any, _linear.Linear] | None:
    """Values, aux and the linear model, computed for all heads together.

    All is of one trace, so that it fits together whatever a model does while it is
    traced. None where it has effects, which are to happen once, and where it decides by
    numbers that are known without `jit`.

    Args:
        leaves: the parameters.
        run: traces the model.
    """
    seen: list[Any] = []

    def arrays() -> list[Array]:
        values, aux, tangents = run()
        found, structure = jax.tree.flatten((values, aux))
        at = [i for i, x in enumerate(found) if isinstance(x, jax.Array)]
        seen.extend((found, structure, at, tangents.jaxpr))
        return [*(found[i] for i in at), *tangents.consts]

    try:
        program = jax.make_jaxpr(arrays)()
    except _UNKNOWN:
        return None
    if program.effects:
        return None
    found, structure, at, tangents = seen
    forward, results = _forward.forward(program)
    forward.compute()
    each = [
        jnp.asarray(atom.val, atom.aval.dtype)
        if _equations.is_literal(atom)
        else forward[atom]
        for atom in results
    ]
    for i, x in zip(at, each, strict=False):
        found[i] = x
    for i, x in forward.numbers(results[: len(at)]).items():
        found[at[i]] = x
    values, aux = jax.tree.unflatten(structure, found)
    closed = core.ClosedJaxpr(tangents, each[len(at) :])
    linear = _linear.analysed(values, leaves, closed)
    names = itertools.zip_longest(linear.kept.items(), results[len(at) :])
    for (v, array), result in names:
        forward.give(v, array, result)
    forward.extend(linear.forward)
    tuples = dict.fromkeys(
        atoms
        for private in (False, True)
        for group in _alike.alike(_alike.paths(linear, private), _xla.ALIKE_HEADS)
        for atoms in zip(*(path.taken for path in group), strict=True)
        if _differ(linear, atoms)
    )
    rows = {atoms: forward.rows(atoms) for atoms in tuples}
    return values, aux, linear._replace(rows=rows)


def _differ(linear: _linear.Linear, atoms: tuple[Any, ...]) -> bool:
    """Whether they are known, and not the same for all heads."""
    if _equations.is_literal(atoms[0]) or atoms[0] not in linear.known:
        return False
    return any(v is not atoms[0] for v in atoms)
