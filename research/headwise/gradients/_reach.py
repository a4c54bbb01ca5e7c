"""Which head reaches which parameter, read off a model that is linearised already.

Example:
    >>> from headwise.gradients import _linear, _reach
    >>> def plain(p):
    ...     both = jnp.stack([p["C"], p["D"]]) * p["A"]
    ...     return {"loss1": both[0], "loss2": both[1]}, None
    >>> _, _, linear = _linear.linearize(plain, {"A": 2.0, "C": 3.0, "D": 7.0})
    >>> print([linear.heads[v] for v in linear.params])     # they share an array
    [3, 3, 3]
    >>> _reach.reaches(linear)                              # told apart by its entries
    [[True, True, False], [True, False, True]]
"""

from collections.abc import Sequence

import jax

from headwise.gradients import _dependence
from headwise.gradients import _equations
from headwise.gradients import _head_sets
from headwise.gradients import _linear
from headwise.gradients import _transpose
from headwise.typing import Array


def reaches(linear: _linear.Linear) -> list[list[bool]]:
    """For each head, one flag a leaf of the parameters, as `routing` finds them.

    The linear program is transposed with a symbol for every head's cotangent; a head
    reaches a parameter whose gradient depends on its symbol. `linear.heads` alone would
    not tell apart heads that share an array (stacked losses). Nothing is evaluated.
    """
    heads = [h for h, v in enumerate(linear.values) if v is not None]
    outputs = [linear.values[h] for h in heads]
    taken = [*linear.known, *linear.params]
    forward = _equations.function(taken, outputs, linear.equations)

    def backward(cotangents: list[Array]) -> Sequence[Array]:
        known = list(linear.known.values())
        return _transpose.transposed(forward, known, linear.params)(cotangents)

    program = jax.make_jaxpr(backward)([linear.ones[h] for h in heads])
    sets = _dependence.dependence(program, [_head_sets.single(h) for h in heads])
    return [
        [bool(s & _head_sets.single(h)) for s in sets] for h in range(len(linear.names))
    ]
