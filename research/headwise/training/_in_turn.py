"""Looking in turn: microbatches for a balancer that asks for the values alone.

Their weighted pass cannot be run before the weights are known, and these may depend on
the values of the whole batch; no part's activations are kept meanwhile. So the parts
are gone through twice: forward alone, then forward and back, once for all heads.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax

from headwise import _means
from headwise import _traced
from headwise import balancers
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.training import _look
from headwise.training import _parts
from headwise.typing import Array
from headwise.typing import PyTree


class InTurn(NamedTuple):
    """Microbatches whose values are known, and a weighted pass through each to come."""

    values: dict[str, Array]
    aux: Any
    """Of the last."""
    tally: _means.Tally
    program: _traced.Traced
    """(params, part, *others) -> (values, (aux, tally)), traced once."""
    params: PyTree
    parts: Any
    others: tuple
    stateful: bool
    tallies: _means.Tally
    """Of every part, stacked."""

    def reaches(self) -> list[_layout.Flags]:
        """For each head, the leaves that it moves."""
        others = _parts.others_of(0, self.others, self.stateful)
        first = _parts.first(self.parts)
        return _look.whole(self.program, self.params, first, *others).reaches()

    def passed(
        self, decision: balancers.Decision, own: _head_gradients.Own | None
    ) -> tuple["InTurn", list[Array]]:
        """What is seen on the way, and the gradient to apply, leaf by leaf.

        The values are seen anew. So a compiler finds that nobody needs the first ones
        where weights do not depend on them, and leaves out the pass that made them.
        """
        shares = _parts.shares(self.values, self.tallies, self.parts)

        def add(total: list[Array], numbered: tuple, *others: Any) -> tuple:
            part, share = numbered
            look = _look.whole(self.program, self.params, part, *others)
            asked, apart = decision, own
            if share is not None:
                asked = balancers.Decision(_scaled(decision.weights, share))
            if share is not None and own is not None:
                apart = own._replace(weights=_scaled(own.weights, share))
            more = _head_gradients.OneMorePass(look.backward).total(asked, apart)
            return _parts.add(total, more), look.values, look.aux

        like = [jax.typeof(p) for p in jax.tree.leaves(self.params)]
        total, told, aux = _parts.in_turn(
            add,
            _parts.zeros_of(like),
            (self.parts, shares),
            self.others,
            self.stateful,
        )
        values, tally = _parts.of_stacked(told, self.tallies, self.parts)
        new = self._replace(values=values, aux=aux, tally=tally)
        return new, _parts.mean(total, self.parts, like)


def _scaled(weights: Array, share: Array) -> Array:
    return weights * share.astype(weights.dtype)


def look(
    plain: _look.Plain,
    parts: int,
    params: PyTree,
    batch: Any,
    *others: Any,
    stateful: bool = False,
) -> InTurn:
    """Values alone, one microbatch after the other; `plain` is traced once."""
    cut = _parts.parted("microbatches", parts, batch)
    program = _look.of_part(plain, params, cut, others, stateful)

    def tell(_: tuple, part: Any, *others: Any) -> tuple[tuple, Any, Any]:
        values, (aux, tally) = program(params, part, *others)
        tally.refuse_coupled("microbatches")
        return (), (values, tally), aux

    _, (stacked, tallies), aux = _parts.in_turn(tell, (), cut, others, stateful)
    values, tally = _parts.of_stacked(stacked, tallies, cut)
    return InTurn(values, aux, tally, program, params, cut, others, stateful, tallies)


def looker(
    plain: _look.Plain,
    batches: int,
    microbatches: int,
    method: str,
    alone: bool,
    stateful: bool,
) -> Callable[[PyTree, tuple], _look.Look | InTurn]:
    """`look(params, args)`, in the way that is asked for.

    Args:
        plain: the model.
        batches: independent ones that a balancer wants.
        microbatches: into how many parts a batch is cut; one of the two is 1.
        method: how the heads go through the shared part.
        alone: whether the values alone are asked for.
        stateful: whether `args` are (batch, rest, key), as in `_parts.others_of`.
    """

    def look_at(params: PyTree, args: tuple) -> _look.Look | InTurn:
        if batches > 1:
            return _look.several(plain, batches, params, *args, stateful=stateful)
        if microbatches == 1:
            return _look.whole(plain, params, *args)
        if alone:
            return look(plain, microbatches, params, *args, stateful=stateful)
        return _look.accumulated(
            plain, microbatches, method, params, *args, stateful=stateful
        )

    return look_at
