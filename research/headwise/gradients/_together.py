"""What many heads have kept, and their values, computed for all of them together.

The linear program of a model takes from the forward pass what that has kept, head by
head. Where heads are alike, so is what leads to it: the model is traced once more, to
the program of its forward pass (`_forward`), and the stacks of heads (`_stacks`) get
their data from that. The other way stays there; compilers drop what nobody uses.

Example:
    >>> from headwise.gradients import _linear, _together
    >>> def plain(p):
    ...     return {f"y{h:02}": jnp.sin(p[h]) for h in range(16)}, None
    >>> def f(p):
    ...     seen = _linear.linearize(plain, p)
    ...     _, _, linear = _together.together(*seen, lambda: _linear.run(plain, p))
    ...     return [rows for rows in linear.rows.values()]
    >>> print(*jax.jit(f)(jnp.zeros(16)))
    [1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1. 1.]
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from headwise import _xla
from headwise.gradients import _alike
from headwise.gradients import _equations
from headwise.gradients import _forward
from headwise.gradients import _linear
from headwise.typing import Array

Run = Callable[[], tuple[dict[str, Array], Any, core.ClosedJaxpr]]
"""A linearisation: values, aux, the program of tangents."""


def together(
    values: dict[str, Array], aux: Any, linear: _linear.Linear, run: Run
) -> tuple[dict[str, Array], Any, _linear.Linear]:
    """The same, computed for all heads together where they are many and alike.

    Not of a model that has effects, which are to happen once, nor outside of a trace.

    Args:
        values: of the heads.
        aux: what came with them.
        linear: the linearised model.
        run: gives all that once more.
    """
    traced = any(isinstance(x, jax.core.Tracer) for x in linear.leaves)
    if len(values) < _xla.ALIKE_HEADS or not traced or linear.is_placed:
        return values, aux, linear
    tuples = dict.fromkeys(
        atoms
        for private in (False, True)
        for group in _alike.alike(_alike.paths(linear, private), _xla.ALIKE_HEADS)
        for atoms in zip(*(path.taken for path in group), strict=True)
        if _differ(linear, atoms)
    )
    if not tuples:
        return values, aux, linear
    leaves, structure = jax.tree.flatten((values, aux))
    arrays = [i for i, x in enumerate(leaves) if isinstance(x, jax.Array)]

    def all_arrays() -> list[Array]:
        values, aux, program = run()
        leaves = jax.tree.leaves((values, aux))
        return [*(leaves[i] for i in arrays), *program.consts]

    program = jax.make_jaxpr(all_arrays)()
    if program.effects:
        return values, aux, linear
    forward, results = _forward.forward(program)
    for (v, array), atom in itertools.zip_longest(
        linear.kept.items(), results[len(arrays) :]
    ):
        forward.give(v, array, atom)
    forward.extend(linear.forward)
    for i, x in forward.numbers(results[: len(arrays)]).items():
        leaves[arrays[i]] = x
    values, aux = jax.tree.unflatten(structure, leaves)
    rows = {atoms: forward.rows(atoms) for atoms in tuples}
    return values, aux, linear._replace(rows=rows)


def _differ(linear: _linear.Linear, atoms: tuple[Any, ...]) -> bool:
    """Whether they are known, and not the same for all heads."""
    if _equations.is_literal(atoms[0]) or atoms[0] not in linear.known:
        return False
    return any(v is not atoms[0] for v in atoms)
