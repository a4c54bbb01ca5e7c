"""Which head reaches which parameter, read off a model that is linearised already."""

from typing import Any

import jax

from headwise import _numerics
from headwise.gradients import _dependence
from headwise.gradients import _linear
from headwise.typing import Array


def reaches(linear: _linear.Linear) -> list[list[bool]]:
    """For each head, one flag a leaf of the parameters, as `routing` finds them.

    The linear program is transposed with a symbol for every head's cotangent; a head
    reaches a parameter whose gradient depends on its symbol. `linear.heads` alone would
    not tell apart heads that share an array (stacked losses).
    """
    heads = [h for h, v in enumerate(linear.values) if v is not None]
    outputs = [linear.values[h] for h in heads]
    forward = _linear.function(
        [*linear.known, *linear.params], outputs, linear.equations
    )

    def backward(cotangents: list[Array]) -> Any:
        def tangents(*leaves: Array) -> list[Array]:
            return forward(*linear.known.values(), *leaves)

        if any(_numerics.varying_axes(v.aval) for v in linear.params):
            # `linear_transpose` takes no types that differ between devices.
            return jax.vjp(tangents, *map(_linear.zeros, linear.params))[1](cotangents)
        structs = map(_linear.struct, linear.params)
        return jax.linear_transpose(tangents, *structs)(cotangents)

    program = jax.make_jaxpr(backward)([linear.ones[h] for h in heads])
    sets = _dependence.dependence(program, [1 << h for h in heads])
    return [[bool(s >> h & 1) for s in sets] for h in range(len(linear.names))]
