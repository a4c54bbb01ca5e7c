"""All heads side by side down the shared part, parameter by parameter.

The heads' cotangents of one part are pulled back before any goes on to the next part.
So the gradients of all heads for one parameter are complete at the same time, while
those of the parameters below it do not exist yet::

    loss1, loss2      cotangents of both values
        trunk/1       of what trunk/1 takes; both gradients of w1: complete, may go
        trunk/0       of what trunk/0 takes; both gradients of w0

Example:
    >>> from headwise.gradients import _cut, _linear, _lockstep
    >>> def plain(p):
    ...     h = p[0] * p[1]
    ...     return {"loss1": 3.0 * h, "loss2": h**2}, None
    >>> cut = _cut.cut(_linear.linearize(plain, [2.0, 5.0])[2])
    >>> walk = _lockstep.Lockstep(cut, cut.starts(), batched=False)
    >>> for parameter, gradients in walk:
    ...     leaf = cut.linear.params.index(parameter)
    ...     print(leaf, {head: float(g) for head, g in gradients.items()})
    0 {0: 15.0, 1: 100.0}
    1 {0: 6.0, 1: 40.0}
"""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from headwise import _xla
from headwise.gradients import _cut
from headwise.gradients import _equations
from headwise.gradients import _parts
from headwise.gradients._equations import Var
from headwise.gradients._transpose import Cotangents
from headwise.typing import Array

ByHead: TypeAlias = dict[int, Array]
"""{head: its cotangent} of one variable; heads that do not reach it are not there."""


class Lockstep:
    """Goes once from the features to the parameters, with the cotangents of all heads.

    An iterator of `(parameter, {head: gradient})`, each as soon as it is complete.
    """

    def __init__(self, cut: _cut.Cut, starts: Sequence[Cotangents], batched: bool):
        """Starts where the private parts end.

        Args:
            cut: the backward program.
            starts: of each head, cotangents of features and parameters.
            batched: where a part gets a cotangent from every head, pull the stack of
                them back at once.
        """
        self._cut = cut
        self._batched = batched
        self._on_the_way: dict[Var, ByHead] = {}
        for h, start in enumerate(starts):
            self._add(h, start)

    def __iter__(self) -> Iterator[tuple[Var, ByHead]]:
        # Parts that still have to add to the gradient of each parameter.
        open_parts = dict.fromkeys(self._cut.linear.params, 0)
        for part in self._cut.shared:
            for v in part.inputs:
                if v in open_parts:
                    open_parts[v] += 1
        for v in [v for v in self._on_the_way if open_parts.get(v) == 0]:
            yield v, self._on_the_way.pop(v)
        for part in self._cut.shared:
            self._pull(part)
            for v in part.inputs:
                if v in open_parts:
                    open_parts[v] -= 1
                    if not open_parts[v] and v in self._on_the_way:
                        yield v, self._on_the_way.pop(v)

    def continue_after(self, done: Array) -> Array:
        """Holds all that is on the way until `done`, which is returned, is computed.

        What was made of the gradients that came out is complete then, and they may go
        before the next part makes more.
        """
        cotangents = list(self._on_the_way.values())
        cotangents, done = _xla.hold(cotangents, done)
        self._on_the_way = dict(zip(self._on_the_way, cotangents, strict=True))
        return done

    def _add(self, head: int, cotangents: Cotangents) -> None:
        for v, ct in cotangents.items():
            of_head = self._on_the_way.setdefault(v, {})
            of_head[head] = of_head[head] + ct if head in of_head else ct

    def _pull(self, part: _parts.Part) -> None:
        """Takes the cotangents of a part's outputs to its inputs, head by head.

        As one stack where every head comes with a cotangent of the same outputs.
        """
        arrived = [v for v in part.outputs if v in self._on_the_way]
        given = {v: self._on_the_way.pop(v) for v in arrived}
        heads = sorted({h for of_head in given.values() for h in of_head})
        everywhere = all(len(of_head) == len(heads) for of_head in given.values())
        if self._batched and part.stacks and len(heads) > 1 and everywhere:
            stacks = {v: jnp.stack([g[h] for h in heads]) for v, g in given.items()}
            pulled = _pull_stacks(part, stacks)
            if pulled is not None:
                for i, h in enumerate(heads):
                    self._add(h, {v: stack[i] for v, stack in pulled.items()})
                return
        for h in heads:
            self._add(h, part.pull({v: g[h] for v, g in given.items() if h in g}))


def _pull_stacks(part: _parts.Part, stacks: Cotangents) -> Cotangents | None:
    """Of all heads; None where an operation has no rule for stacks (`ragged_dot`)."""
    inputs: list[Var] = []

    def pull(cotangents: list[Array]) -> list[Array]:
        pulled = part.pull(dict(zip(stacks, cotangents, strict=True)))
        inputs[:] = pulled
        return list(pulled.values())

    try:
        arrays = jax.vmap(pull)(list(stacks.values()))
    except NotImplementedError:
        return None
    return dict(zip(inputs, arrays, strict=True))


def most_bytes(cut: _cut.Cut) -> int:
    """The most that the cotangents of all heads hold at a time in `Lockstep`."""
    heads_of = cut.linear.heads.items()
    size = {v: _equations.nbytes(v) * heads.bit_count() for v, heads in heads_of}
    now = {v for part in cut.private.values() for v in part.inputs}
    now &= {v for part in cut.shared for v in part.outputs}
    params = set(cut.linear.params)
    most = sum(size[v] for v in now)
    for part in cut.shared:
        now |= set(part.inputs)
        most = max(most, sum(size[v] for v in now))
        now -= set(part.outputs) | params
    return most
