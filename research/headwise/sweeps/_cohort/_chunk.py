"""Steps of members, many at a time, and the very step at which one breaks.

A member breaks in a step after which an element of its state that was finite is not any
more, or of which its report says so. It stays what it was before that step. What a
state holds of infinities and NaN from the start (the best so far, say) breaks nothing.

Steps are the program's own and nothing else: what is broken for good (`_staying`) is
found after all of them. A member that broke in a chunk then is what it was before the
chunk, and goes its steps again in pieces, at last one alone: that is the one.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _reports
from headwise.typing import Array

NEVER = 2**31 - 1
"""After all steps that there are."""


class Way(NamedTuple):
    """Members on their way through a chunk; of one without the leading axis."""

    t: Array
    """int32 [K]: the number of the next step."""
    state: Any
    broke: Array
    """int32 [K]: after how many steps something was not finite; `NEVER`."""
    bad: Array
    """bool [K, H]: heads for whose values the last step broke."""
    counts: Array
    """bool [K, H]: heads whose weight was not 0 in it."""


def begun(parts: _program.Parts, member: _members.Members) -> Way:
    """One member before its first step."""
    none = jnp.zeros((len(parts.heads),), bool)
    return Way(member.t, member.state, jnp.full((), NEVER, jnp.int32), none, none)


def stepped(
    parts: _program.Parts,
    arrays: dict[str, list[Array]],
    way: Way,
    i: Array,
    *batch: Any,
) -> tuple[Way, dict[str, Array]]:
    """One member after its step number i of a chunk, and what it told (packed)."""
    state, told = _program.called(parts.step, arrays["step"], way.state, way.t, *batch)
    fine = told.fine & ~jnp.any(_lost(way.state, state, parts.passing))
    broke = jnp.minimum(way.broke, jnp.where(fine, NEVER, i))
    way = Way(way.t + 1, state, broke, told.bad & ~told.fine, told.counts)
    return way, told.packed


def goes_on(before: _members.Members, way: Way, limits: _reports.Limits) -> Array:
    """Whether there is anyone whose steps these are."""
    return jnp.any(before.alive & limits.active & (way.broke == NEVER))


def ended(
    before: _members.Members, way: Way, limits: _reports.Limits
) -> tuple[_members.Members, Array, Array]:
    """One member after a chunk, whether it went through all of it, and where it broke.

    That is after how many whole steps, `limits.number` if only a look at the end tells;
    `NEVER`. Where one step alone is the chunk, the member is frozen.
    """
    lost = _lost(before.state, way.state)
    active = before.alive & limits.active
    found = jnp.minimum(way.broke, jnp.where(jnp.any(lost), limits.number, NEVER))
    broke = jnp.where(active, found, NEVER)
    whole = active & (broke == NEVER)
    frozen = active & (broke < NEVER) & (limits.number == 1)
    after = _members.Members(
        state=jax.tree.map(
            lambda a, b: jnp.where(whole, a, b), way.state, before.state
        ),
        t=jnp.where(whole, way.t, before.t),
        alive=before.alive & ~frozen,
        stopped=jnp.where(frozen, before.t, before.stopped),
        cause=jnp.where(frozen, _cause(way, lost), before.cause),
        digest=before.digest,
    )
    return after, whole, broke


def _lost(old: Any, new: Any, which: Sequence[int] | None = None) -> Array:
    """For each array of a state, or some, whether what was finite in it is not now."""
    pairs = list(zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))
    found = [
        jnp.any(jnp.isfinite(a) & ~jnp.isfinite(b))
        if jnp.issubdtype(a.dtype, jnp.inexact)
        else jnp.zeros((), bool)
        for a, b in (pairs if which is None else [pairs[n] for n in which])
    ]
    return jnp.stack(found) if found else jnp.zeros((0,), bool)


def _cause(way: Way, lost: Array) -> Array:
    """Heads first, those with a weight before the others; then the state's arrays."""
    cause = jnp.full((), -1, jnp.int32)
    heads = way.bad, way.bad & way.counts
    for which, sign, start in ((lost, -1, -2), *((bad, 1, 0) for bad in heads)):
        if which.size:
            number = start + sign * jnp.argmax(which).astype(jnp.int32)
            cause = jnp.where(jnp.any(which), number, cause)
    return cause


def through(
    run: Callable[[Any, int, np.ndarray], tuple[Any, Any, np.ndarray]],
    members: Any,
    number: int,
    active: np.ndarray,
) -> tuple[Any, list[Any]]:
    """The members after so many steps, or frozen at the one that broke them.

    Args:
        run: `(members, number, active)` -> (members, reports, where each broke as
            `ended` says), of those that are active and alive.
        members: of any kind that `run` takes.
        number: of steps.
        active: bool [K], whose steps these are.

    Returns:
        The members, and the reports of all pieces in the order of their steps.
    """
    found, left, frozen = [], [(number, active)], np.zeros_like(active)
    while left:
        part, active = left.pop()
        if not (active & ~frozen).any():
            continue
        members, reports, broke = run(members, part, active)
        found.append(reports)
        again = broke < NEVER
        if part == 1:
            frozen |= again
        elif again.any():
            left += [(size, again) for size in reversed(_pieces(part, broke[again]))]
    return members, found


def _pieces(number: int, broke: np.ndarray) -> list[int]:
    """Lengths of pieces: single steps around those after which members broke.

    A member tells that it is broken in the step that broke it, or soon after. If it
    does not tell at all, it is looked for in halves.

    Example:
        >>> _pieces(100, np.array([40, 40])), _pieces(100, np.array([100]))
        ([39, 1, 1, 59], [49, 1, 1, 49])
    """
    at = {int(n) if n < number else number // 2 for n in broke}
    cuts = {n + more for n in at for more in (-1, 0, 1)}
    bounds = [0, *sorted(n for n in cuts if 0 < n < number), number]
    return np.diff(bounds).tolist()
