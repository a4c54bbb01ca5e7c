"""Every backward pass that a step may want, from one forward pass."""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _numerics
from headwise import _products
from headwise import _rows
from headwise import _trees
from headwise import _xla
from headwise.gradients import _cut
from headwise.gradients import _equations
from headwise.gradients import _gramian
from headwise.gradients import _linear
from headwise.gradients import _lockstep
from headwise.gradients import _many_heads
from headwise.gradients import _reach
from headwise.gradients import _together
from headwise.typing import Array
from headwise.typing import PyTree

ROWS = ("auto", "sequential", "batched")
"""Ways through the shared part for gradients, and with "lockstep" for a gramian."""


@dataclasses.dataclass(frozen=True)
class Backward:
    """The backward passes of a model at some parameters; each call costs what it says.

    Rows and leaves are lists: H heads in sorted order of names, the leaves of the
    parameters in theirs. Made by `hw.gradients.linearize`.

    Example:
        >>> plain = hw.gradients.with_aux(
        ...     lambda p: {"a": p["w"] * p["c"], "b": p["w"] ** 2}, False
        ... )
        >>> _, _, backward = hw.gradients.linearize(plain, {"c": 3.0, "w": 2.0})
        >>> print(backward.gramian([True, True]))                    # (2, 3) and (0, 4)
        [[13. 12.]
         [12. 16.]]
        >>> print(*backward.weighted(jnp.array([1.0, 0.5])))
        2.0 5.0
    """

    linear: _linear.Linear

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, sorted."""
        return self.linear.names

    @property
    def kept_bytes(self) -> int:
        """What the forward pass keeps for the backward passes."""
        return sum(_equations.nbytes(v) for v in self.linear.known)

    @property
    def rows_bytes(self) -> int:
        """What the gradients of all heads take, where they are not zero."""
        return self._bytes(self.linear.params)

    def _bytes(self, params: Sequence[Any]) -> int:
        heads = self.linear.heads
        return sum(_equations.nbytes(v) * heads.get(v, 0).bit_count() for v in params)

    def reaches(self) -> list[list[bool]]:
        """For every head, which leaves it moves: what `hw.routing` says, at no trace.

        `values_fn` is not looked at again: the answer is in the linear program.
        """
        return _reach.reaches(self.linear)

    def is_batched(self, method: str) -> bool:
        """Whether the heads go through the shared part as a stack.

        "auto" stacks on accelerators, and on CPU where the shared part multiplies
        stacks of matrices anyway (attention) and its parameters are small;
        docs/guides/head_gradients.md has the figures.
        """
        if method != "auto":
            return method == "batched"
        linear = self.linear
        return _xla.stacks_heads(linear.has_batched_products, linear.largest_factor)

    def rows(
        self, method: str = "auto", flags: Sequence[bool] | None = None
    ) -> Sequence[list[Array]]:
        """The gradient of every head for every leaf: one pass a head.

        Many heads that differ in data alone go through one program (`_stacks`), one by
        one, stacked, or some at a time; what comes back is a list all the same.

        Args:
            method: "sequential", "batched" or "auto".
            flags: the leaves that are asked for; the others may come out as zeros.
        """
        if rows := _many_heads.rows(self.linear, method, flags):
            return rows
        cut = _cut.cut(self.linear, flags)
        if not self.is_batched(method):
            return [cut.leaves(row) for row in cut.one_by_one()]
        gradients = dict(_lockstep.Lockstep(cut, cut.starts(), batched=True))
        return [
            cut.leaves({v: row[h] for v, row in gradients.items() if h in row})
            for h in range(len(self.names))
        ]

    def feature_rows(self) -> Sequence[list[Array]]:
        """The gradient of every head for every feature: the private parts alone.

        Raises:
            ValueError: the model has no features.
        """
        cut = _cut.cut(self.linear)
        if not cut.features:
            raise ValueError(
                "wrt: 'features' asks for the arrays between a shared and a private "
                "part of the model, and there are none"
            )
        if rows := _many_heads.feature_rows(cut):
            return rows
        return [
            [
                start[v] if v in start else jnp.zeros(v.aval.shape, v.aval.dtype)
                for v in cut.features
            ]
            for start in cut.starts()
        ]

    def weighted(
        self,
        weights: Array,
        own: Array | None = None,
        private: Sequence[bool] | None = None,
    ) -> list[Array]:
        """The gradient of Σ weight * value for every leaf: one pass in all.

        A head of weight 0 leaves no trace, whatever is NaN in its private part.

        Args:
            weights: [H].
            own: [H] other weights, for the leaves flagged as private.
            private: flags, one for every leaf of the parameters; given with `own`.
        """
        cut = _cut.cut(self.linear, by_head=False)
        both = [weights] if own is None or private is None else [weights, own]
        sums = _many_heads.weighted_starts(cut, both)
        total = cut.leaves(cut.pull_shared(sums[0]))
        if own is None or private is None:
            return total
        mine = sums[1]
        late = {v for part in cut.shared for v in part.inputs}
        if late & set(_trees.chosen(self.linear.params, private)):
            # Held in an equation together with parts of other heads.
            mine = cut.pull_shared(mine)
        pairs = zip(private, total, cut.leaves(mine), strict=True)
        return [o if on else w for on, w, o in pairs]

    def gramian(self, flags: Sequence[bool], method: str = "auto") -> Array:
        """[H, H] over the flagged leaves, whose gradients are never all there.

        Args:
            flags: one for every leaf of the parameters.
            method: as in `hw.head_gramian`.
        """
        chosen = _trees.chosen(self.linear.params, flags)
        heads = len(self.names)
        if method != "lockstep" and self._bytes(chosen) <= max(
            _xla.KEPT_BYTES, self.kept_bytes
        ):
            stacked = _many_heads.rows(self.linear, method, flags)
            if stacked is not None:
                return _rows.gramian(heads, _trees.chosen(stacked.leaves, flags))
        batched = self.is_batched(method)
        large = None
        if not batched:
            large = max(map(_equations.nbytes, chosen)) // _xla.LARGE_PART
        cut = _cut.cut(self.linear, flags, large)
        if method == "auto" and not batched:
            small = _lockstep.most_bytes(cut) < self._bytes(chosen)
            method = "lockstep" if small else "sequential"
        if method == "sequential":
            cut = _cut.cut(self.linear, flags)
            rows = [cut.leaves(row) for row in cut.one_by_one()]
            return _gramian.of_rows([_trees.chosen(row, flags) for row in rows])
        dtype = jnp.result_type(jnp.float32, *(v.aval.dtype for v in chosen))
        total = jnp.zeros((heads, heads), jnp.zeros((), dtype).real.dtype)
        walk = _lockstep.Lockstep(cut, cut.starts(), batched)
        for parameter, gradients in walk:
            if parameter in chosen:
                mine = sorted(gradients)
                gram = _products.products([gradients[h] for h in mine])
                total = total.at[np.ix_(mine, mine)].add(gram.astype(total.dtype))
                total = walk.continue_after(total)
        return total


def linearize(
    plain: Callable[..., tuple[dict, Any]], params: PyTree, *args: Any, **kwargs: Any
) -> tuple[dict[str, Array], Any, Backward]:
    """One forward pass, and every backward pass that one may want after it.

    For those who write their own step: `hw.head_grads`, `hw.head_gramian` and
    `hw.balanced_grad` are made of it.

    Args:
        plain: `(params, *args, **kwargs) -> ({name: scalar}, aux)`, as
            `hw.gradients.with_aux` makes it.
        params: pytree of floating arrays.
        *args, **kwargs: the further arguments of `plain`; not differentiated.

    Returns:
        (values, aux, backward): a dict in sorted order, what `plain` gave, `Backward`.

    Example:
        >>> plain = hw.gradients.with_aux(lambda p: {"a": 3 * p, "b": p**2}, False)
        >>> values, _, backward = hw.gradients.linearize(plain, 5.0)
        >>> print(backward.names, values["b"])
        ('a', 'b') 25.0
        >>> print([float(leaf) for row in backward.rows() for leaf in row])
        [3.0, 10.0]
        >>> print(*backward.weighted(jnp.array([2.0, 1.0])))       # 2 * 3 + 10
        16.0
    """
    run = functools.partial(_linear.run, plain, params, *args, **kwargs)
    values, aux, program = run()
    leaves = jax.tree.leaves(params)
    traced = any(isinstance(x, jax.core.Tracer) for x in leaves)
    placed = any(_numerics.is_placed(jax.typeof(x)) for x in leaves)
    if len(values) >= _xla.ALIKE_HEADS and traced and not placed:
        found = _together.together(leaves, run)
        if found is not None:
            values, aux, linear = found
            return values, aux, Backward(linear)
    return values, aux, Backward(_linear.analysed(values, leaves, program))
