"""How branches and loops pass on sets of heads: by following the programs inside.

A scan is followed step by step until its carries come back to what they were::

    (a, b) <- (b, a + b)   with a {0}, b {1}:   {0} {1},  {1} {0, 1},  {0, 1} {0, 1}

and no further step changes anything. A loop of unknown length joins all its steps.

Example:
    >>> from headwise.gradients import _dependence
    >>> def after(steps):
    ...     def swap(a, b):
    ...         body = lambda carry, _: ((carry[1], carry[0] + carry[1]), None)
    ...         return jax.lax.scan(body, (a, b), None, length=steps)[0]
    ...     return _dependence.dependence(jax.make_jaxpr(swap)(1.0, 2.0), [0b01, 0b10])
    >>> after(1), after(2), after(1000)
    ([2, 3], [3, 3], [3, 3])
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import numpy as np

from headwise.gradients import _head_sets
from headwise.gradients._head_sets import Sets

STEPS = 32
"""Steps of a scan whose carries are followed entry by entry; then as a whole."""

Follow: TypeAlias = Callable[[Any, Sequence[Sets]], list[Sets]]
"""`_dependence.entrywise`: a program and the sets of its inputs to those of outputs."""


def _cond(eqn: Any, sets: list[Sets], follow: Follow) -> list[Sets]:
    branches = [follow(branch, sets[1:]) for branch in eqn.params["branches"]]
    # Which branch runs depends on the index; it carries no gradient, but a program may
    # be asked for plain data flow too.
    return [_head_sets.join([sets[0], *each]) for each in zip(*branches, strict=True)]


def _scan(eqn: Any, sets: list[Sets], follow: Follow) -> list[Sets]:
    """Step by step, with one set of sets for all rows of what is scanned over.

    When the carries are what they were some steps ago, all whole periods are skipped;
    after `STEPS` steps they have one set each, and must repeat soon.
    """
    program = eqn.params["jaxpr"]
    consts, carries = _constants_and_carries(eqn)
    carry, rows = sets[consts : consts + carries], sets[consts + carries :]
    rows = [s if isinstance(s, int) else _of_any_row(s) for s in rows]
    stacked: list[Sets] = [0] * (len(eqn.outvars) - carries)
    seen: dict[tuple, int] = {}
    step, length = 0, eqn.params["length"]
    while step < length:
        if step >= STEPS:
            carry = [_head_sets.union([s]) for s in carry]
        state = tuple(s if isinstance(s, int) else (s.shape, *s.flat) for s in carry)
        if state in seen:  # it repeats: skip all whole periods
            period = step - seen[state]
            length = step + (length - step) % period
            seen = {}
            continue
        seen[state] = step
        outputs = follow(program, sets[:consts] + carry + rows)
        carry, of_step = outputs[:carries], outputs[carries:]
        stacked = [_head_sets.join(pair) for pair in zip(stacked, of_step, strict=True)]
        step += 1
    return carry + [s if isinstance(s, int) else s[None] for s in stacked]


def _constants_and_carries(eqn: Any) -> tuple[int, int]:
    """How many a scan has of both, told by shapes.

    What is scanned over or stacked has one axis more outside; the parameters that count
    constants and carries differ between versions of JAX.
    """
    inner = getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"])
    outputs = zip(eqn.outvars, inner.outvars, strict=True)
    inputs = zip(eqn.invars, inner.invars, strict=True)
    carries = sum(out.aval.ndim == body.aval.ndim for out, body in outputs)
    scanned = sum(out.aval.ndim > body.aval.ndim for out, body in inputs)
    return len(eqn.invars) - carries - scanned, carries


def _of_any_row(sets: np.ndarray) -> Sets:
    return _head_sets.simplest(_head_sets.join_along(sets, [0])[0])


def _while(eqn: Any, sets: list[Sets], follow: Follow) -> list[Sets]:
    """Joins all steps, whole arrays at a time, until another one adds nothing."""
    whole = [_head_sets.union([s]) for s in sets]
    of_cond, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = whole[of_cond + of_body :]
    while True:
        inputs = whole[of_cond : of_cond + of_body] + carry
        after = _whole(follow, eqn.params["body_jaxpr"], inputs)
        stop = _whole(follow, eqn.params["cond_jaxpr"], whole[:of_cond] + carry)[0]
        grown = [old | new | stop for old, new in zip(carry, after, strict=True)]
        if grown == carry:
            return [*grown]
        carry = grown


def _whole(follow: Follow, program: Any, sets: Sequence[int]) -> list[int]:
    return [_head_sets.union([s]) for s in follow(program, sets)]


CONTROL: dict[str, Callable[..., list[Sets]]] = {
    "cond": _cond,
    "scan": _scan,
    "while": _while,
}
"""By primitive: (equation, sets of its operands, follow) -> sets of its outputs."""
