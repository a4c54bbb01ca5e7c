"""Heads that are alike, pulled back as one program over a stack of their data.

With many heads a copy of the backward pass for each takes minutes to compile. Heads
that differ in data alone (`_alike`) need one: their data are stacked, and the copy runs
for some of them at a time, under `vmap`, block after block::

    loss1 = 3 C h      data 3      takes C, h
    loss2 = 5 D h      data 5      takes D, h        one program: x (data, parameter, h)

Example:
    >>> from headwise.gradients import _alike, _linear, _stacks
    >>> plain = lambda p: ({"a": p["C"] * p["A"], "b": p["D"] * p["A"]}, None)
    >>> _, _, linear = _linear.linearize(plain, {"A": 2.0, "C": 3.0, "D": 7.0})
    >>> (group,) = _alike.alike(_alike.paths(linear), least=2)
    >>> stack = _stacks.stack(linear, group)
    >>> for variables, rows in zip(stack.inputs, stack.rows(at_once=2)):
    ...     print([linear.params.index(v) for v in variables], rows)
    [1, 2] [2. 2.]
    [0, 0] [3. 7.]
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from headwise import _products
from headwise import _traced
from headwise import _xla
from headwise.gradients import _alike
from headwise.gradients import _blocks
from headwise.gradients import _equations
from headwise.gradients import _linear
from headwise.gradients import _tokens
from headwise.gradients import _transpose
from headwise.gradients import _weight_products
from headwise.gradients._equations import Var
from headwise.typing import Array


class Stack(NamedTuple):
    """Heads that are alike, and the program of the first."""

    heads: tuple[int, ...]
    one: Array
    """The cotangent of a value."""
    output: Var
    inputs: tuple[tuple[Var, ...], ...]
    """What is linear and comes from outside: of each the variable of every head."""
    steps: tuple[Any, ...]
    """Equations and slices of the first head, with variables for what differs."""
    common: dict[Var, Array]
    """What is known and the same for all heads."""
    data: dict[Var, Array]
    """[heads, ...], what is known and differs."""
    turned: dict[Var, Array]
    """By result, the activations of products with parameters (`_weight_products`)."""

    @property
    def stacked_nbytes(self) -> int:
        """Of what the inputs get from all heads together."""
        of_one = sum(
            _equations.nbytes(v[0]) for v in self._without_first_slices()[0].inputs
        )
        return of_one * len(self.heads)

    @property
    def nbytes(self) -> int:
        """Of one head's cotangents."""
        return sum(_equations.nbytes(v) for step in self.steps for v in step.outvars)

    def rows(self, at_once: int, wanted: Sequence[bool] | None = None) -> list[Array]:
        """[heads, ...] for each input that is wanted: the cotangents of every head.

        Args:
            at_once: how many heads go through the program at a time.
            wanted: a flag for each input; None is all.
        """

        def one(arrays: list[Array]) -> list[Array]:
            *data, _ = arrays
            pulled = self._pull(dict(zip(self.data, data, strict=True)))
            if wanted is None:
                return pulled
            return [ct for ct, on in zip(pulled, wanted, strict=True) if on]

        number = len(self.heads)
        # With the numbers of the heads: there may be nothing in which they differ.
        return _traced.mapped(one, [*self.data.values(), jnp.arange(number)], at_once)

    def weighted(self, *weights: Array) -> list[dict[Var, Array]]:
        """For each of some weights, Σ weight * cotangent by variable.

        A head of weight 0 leaves no trace.

        Args:
            *weights: [heads].
        """
        inner, blocks = self._without_first_slices()
        at_once = _xla.heads_at_once(len(self.heads), inner.nbytes)
        stacks = inner.rows(at_once)
        totals = []
        for of_heads in weights:
            total: dict[Var, Array] = {}
            for variables, stack in zip(inner.inputs, stacks, strict=True):
                block = blocks.get(variables[0])
                if block is None:
                    more = _summed(of_heads, variables, stack)
                else:
                    starts = [self.data[v] for v in block.starts]
                    terms = _products.weighed(of_heads, stack)
                    more = {block.operand: _blocks.put_back(terms, starts, block)}
                for v, ct in more.items():
                    total[v] = total[v] + ct if v in total else ct
            totals.append(total)
        return totals

    def _without_first_slices(self) -> tuple["Stack", dict[Var, _blocks.Block]]:
        """The stack from what is sliced first of all on, and these slices by result."""
        sliced: dict[Var, list[_blocks.Block]] = {}
        others: set[Var] = set()
        for step in self.steps:
            if isinstance(step, _blocks.Block):
                sliced.setdefault(step.operand, []).append(step)
            else:
                others.update(_equations.variables(step.invars))
        first = {}
        for variables in self.inputs:
            v, blocks = variables[0], sliced.get(variables[0], [])
            same = all(other is v for other in variables)
            if same and v not in others and len(blocks) == 1 and blocks[0].axes:
                first[v] = blocks[0]
        inputs = tuple(
            (first[v[0]].out,) * len(v) if v[0] in first else v for v in self.inputs
        )
        gone = list(first.values())
        steps = tuple(step for step in self.steps if step not in gone)
        inner = self._replace(inputs=inputs, steps=steps)
        return inner, {block.out: block for block in gone}

    def _pull(self, data: dict[Var, Array]) -> list[Array]:
        """From the value to the inputs, for the data of one head."""
        known = self.common | data

        def forward(*tangents: Array) -> list[Array]:
            arrays = known | dict(zip(mine, tangents, strict=True))
            for step in self.steps:
                if isinstance(step, _blocks.Block):
                    starts = [arrays[v] for v in step.starts]
                    arrays[step.out] = _blocks.cut(arrays[step.operand], starts, step)
                    continue
                turned = self.turned.get(step.outvars[0])
                if turned is not None:
                    x, w = (arrays[v] for v in step.invars)
                    product = _weight_products.run_turned(x, turned, w, step)
                    arrays[step.outvars[0]] = product
                    continue
                taken = _equations.variables(step.invars)
                run = _equations.function(taken, step.outvars, [step])
                results = run(*(arrays[v] for v in taken))
                arrays |= zip(step.outvars, results, strict=True)
            return [arrays[self.output]]

        mine = [variables[0] for variables in self.inputs]
        return list(_transpose.transposed(forward, [], mine)([self.one]))


def stack(linear: _linear.Linear, group: Sequence[_alike.Path]) -> Stack:
    """The stack of some heads that are alike.

    Args:
        linear: the linearised model.
        group: their paths, of one shape.
    """
    first = group[0]
    fresh = core.gensym()
    common: dict[Var, Array] = {}
    data: dict[Var, Array] = {}
    inputs: list[tuple[Var, ...]] = []
    named: list[Any] = []  # what stands for each of `taken`

    for atoms in zip(*(path.taken for path in group), strict=True):
        atom = atoms[0]
        if _equations.is_literal(atom):
            numbers = np.stack([np.asarray(other.val) for other in atoms])
            if (numbers != numbers[:1]).any():
                kind: Any = atom.aval
                atom = fresh(kind)
                data[atom] = jnp.asarray(numbers, kind.dtype)
        elif atom not in linear.known:
            inputs.append(atoms)
        elif all(other is atom for other in atoms):
            common[atom] = linear.known[atom]
        else:
            data[atom] = linear.rows_of(atoms)
        named.append(atom)

    steps: list[Any] = []
    literals = iter([n for n, a in zip(named, first.taken) if _equations.is_literal(a)])
    starts = iter(zip(*(path.starts for path in group), strict=True))
    for step in first.steps:
        invars = [
            next(literals) if _equations.is_literal(a) else a for a in step.invars
        ]
        if not isinstance(step, _tokens.Slice):
            steps.append(step.replace(invars=invars))
            continue
        at = np.asarray(next(starts), np.int32)
        axes = tuple(int(i) for i in np.flatnonzero((at != at[:1]).any(0)))
        variables = tuple(fresh(jax.typeof(at[0, i])) for i in axes)
        data |= {v: jnp.asarray(at[:, i]) for v, i in zip(variables, axes, strict=True)}
        steps.append(_blocks.Block(invars[0], step.out, step.starts, axes, variables))
    return Stack(
        heads=tuple(path.head for path in group),
        one=linear.ones[first.head],
        output=first.output,
        inputs=tuple(inputs),
        steps=tuple(steps),
        common=common,
        data=data,
        turned={
            step.outvars[0]: _weight_products.turn(linear, step)
            for step in first.steps
            if not isinstance(step, _tokens.Slice)
            and _weight_products.is_weight_product(linear, step)
            and step.invars[0] in common
        },
    )


def _summed(weights: Array, variables: Sequence[Var], stack: Array) -> dict[Var, Array]:
    """Σ weight * row, over the rows of each variable."""
    if all(v is variables[0] for v in variables):
        return {variables[0]: _products.of_stack(weights, stack)}
    terms = _products.weighed(weights, stack)
    total: dict[Var, Array] = {}
    for v, row in zip(
        variables, _xla.apart_if_short(terms.astype(stack.dtype)), strict=True
    ):
        total[v] = total[v] + row if v in total else row
    return total
