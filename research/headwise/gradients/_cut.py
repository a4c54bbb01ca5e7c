"""The linearised model, cut where the heads part, and one head's way back through it.

Equations that lead to one head alone are that head's *private* part, what leads to two
or more is *shared*, and the arrays that pass from the shared into the private parts are
the *features*. The backward pass of a head is then: its private part, from the value to
the features, and the shared part, from the features to the parameters. The private
parts are disjoint, so that all of them together cost one backward pass.

Example:
    >>> from headwise.gradients import _cut, _linear
    >>> def plain(p):                                     # h is 10, the feature
    ...     h = 5.0 * p["A"]
    ...     return {"loss1": p["C"] * h, "loss2": p["D"] * h}, None
    >>> _, _, linear = _linear.linearize(plain, {"A": 2.0, "C": 3.0, "D": 7.0})
    >>> cut = _cut.cut(linear)
    >>> print(sorted(cut.private), [part.heads for part in cut.shared])
    [0, 1] [3]
    >>> start = cut.pull(0, cut.seed(0))                  # from loss1 to C and h
    >>> print(sorted(float(ct) for ct in start.values()))
    [3.0, 10.0]
    >>> print(*cut.leaves(cut.pull_shared(start)))        # of A: 5 * 3; of C; of D
    15.0 10.0 0.0
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _numerics
from headwise import _xla
from headwise.gradients import _linear
from headwise.gradients import _parts
from headwise.gradients._equations import Var
from headwise.gradients._transpose import Cotangents
from headwise.typing import Array


class Cut(NamedTuple):
    """The backward program in order: the private parts, then the shared ones."""

    linear: _linear.Linear
    private: dict[int, _parts.Part]
    """By head; heads whose value is a shared variable have none."""
    shared: tuple[_parts.Part, ...]
    """From the values down to the parameters."""

    @property
    def features(self) -> tuple[Var, ...]:
        """What passes from the shared into the private parts, in program order."""
        taken = {v for part in self.private.values() for v in part.inputs}
        taken |= {
            v
            for h, v in enumerate(self.linear.values)
            if h not in self.private and v is not None
        }
        produced = (v for eqn in self.linear.equations for v in eqn.outvars)
        return tuple(v for v in produced if v in taken)

    @property
    def last_params(self) -> tuple[Var, ...]:
        """Shared parameters, those first whose gradient is complete last."""
        params = set(self.linear.params)
        inputs = (v for part in reversed(self.shared) for v in part.inputs)
        return tuple(dict.fromkeys(v for v in inputs if v in params))

    def seed(self, head: int) -> Cotangents:
        """The cotangent 1 of a head's value; empty if no parameter reaches it."""
        v = self.linear.values[head]
        return {} if v is None else {v: self.linear.ones[head]}

    def pull(self, head: int, seed: Cotangents) -> Cotangents:
        """From a head's value to its private parameters and to what it shares."""
        part = self.private.get(head)
        if part is None or not seed:
            return seed
        given = {v: ct for v, ct in seed.items() if v in part.outputs}
        return part.pull(given) if given else seed

    def pull_shared(self, cotangents: Cotangents) -> Cotangents:
        """From features to the parameters; cotangents of parameters are passed on."""
        cotangents = dict(cotangents)
        for part in self.shared:
            given = {v: cotangents.pop(v) for v in part.outputs if v in cotangents}
            if given:
                add(cotangents, part.pull(given))
        return cotangents

    def starts(
        self, ordered: bool = False, heads: Collection[int] | None = None
    ) -> list[Cotangents]:
        """The private parts of all heads; ordered, one starts after the other.

        Of heads that are not among those given there is nothing.
        """
        starts: list[Cotangents] = []
        last = None
        for h in range(len(self.linear.names)):
            if heads is not None and h not in heads:
                starts.append({})
                continue
            seed = self.seed(h)
            if ordered and last is not None:
                seed = {v: _xla.after(ct, last) for v, ct in seed.items()}
            starts.append(self.pull(h, seed))
            if h in self.private and starts[-1]:
                *_, last = starts[-1].values()
        return starts

    def one_by_one(self, heads: Iterable[int] | None = None) -> list[Cotangents]:
        """The gradients of every head by parameter, one head after the other."""
        rows: list[Cotangents] = []
        last = None
        for h in range(len(self.linear.names)) if heads is None else heads:
            seed = self.seed(h)
            if last is not None:
                seed = {v: _xla.after(ct, last) for v, ct in seed.items()}
            rows.append(self.pull_shared(self.pull(h, seed)))
            complete = [v for v in self.last_params if v in rows[-1]]
            last = rows[-1][complete[0]] if complete else last
        return rows

    def leaves(self, cotangents: Cotangents) -> list[Array]:
        """The gradients of the parameters' leaves, zeros where nothing came."""
        pairs = zip(self.linear.params, self.linear.leaves, strict=True)
        return [
            cotangents[v] if v in cotangents else jnp.zeros_like(x) for v, x in pairs
        ]


def cut(
    linear: _linear.Linear,
    flags: Sequence[bool] | None = None,
    large: int | None = None,
    by_head: bool = True,
) -> Cut:
    """Transposes the linear program part by part.

    Args:
        linear: of `_linear.linearize`.
        flags: which leaves of the parameters are asked for; what leads to no other is
            left out of the shared parts. None means all.
        large: end a part of the shared program wherever a parameter of this many bytes
            or more is used, so that its gradient is complete early.
        by_head: every head will go through the shared parts, not one weighted sum.
    """
    parts = _parts.parts(linear, large, by_head)
    shared = [part for part in parts if part.heads.bit_count() > 1]
    if flags is not None:
        pairs = zip(linear.params, flags, strict=True)
        shared = _parts.leading_to({v for v, on in pairs if on}, shared)
    return Cut(
        linear,
        {p.heads.bit_length() - 1: p for p in parts if p.heads.bit_count() == 1},
        tuple(shared),
    )


def add(total: Cotangents, more: Cotangents) -> None:
    """Sums cotangents by variable, into `total`."""
    for v, ct in more.items():
        total[v] = total[v] + ct if v in total else ct


def weighted(weights: Array, cotangents: Sequence[Cotangents]) -> Cotangents:
    """Σ weight * cotangent by variable; a head of weight 0 leaves no trace.

    Multiplied and summed in at least float32: in float16 small weights would be 0.
    """

    def part(weight: Array, ct: Array) -> Array:
        dtype = _numerics.accumulator(ct)
        return _numerics.drop_zero_weight(weight.astype(dtype), ct.astype(dtype))

    total: Cotangents = {}
    for h, mine in enumerate(cotangents):
        if mine:
            weight = weights[h]
            add(total, {v: part(weight, ct) for v, ct in mine.items()})
    dtypes = {v: ct.dtype for mine in cotangents for v, ct in mine.items()}
    return {v: ct.astype(dtypes[v]) for v, ct in total.items()}
