"""The forward pass of many heads: what is alike in it is computed as one program.

A copy of the forward pass a head takes as long to compile as one of the backward pass.
What a stack of heads wants (`_stacks`) is therefore computed as a stack, from where the
heads differ in data alone. Of `loss1 = (5 - 3)²` and `loss2 = (7 - 2)²`::

    rows of the losses  <-  squares of the rows of the differences
                        <-  the rows (5, 7) minus the rows (3, 2)

Nothing is computed that nobody asks for.

Example:
    >>> from headwise.gradients import _forward
    >>> x, y = jnp.float32(5), jnp.float32(7)
    >>> program = jax.make_jaxpr(lambda: [(x - 3.0) ** 2, (y - 2.0) ** 2])()
    >>> forward, losses = _forward.forward(program)
    >>> print(forward[losses[1]], forward.rows(losses))
    25.0 [ 4. 25.]
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from headwise import _xla
from headwise.gradients import _blocks
from headwise.gradients import _equations
from headwise.gradients import _tokens
from headwise.gradients._equations import Var
from headwise.typing import Array

Heads = tuple[Any, ...]
"""Of each of some heads a variable, or a number that is written in the program."""


class _Rows(NamedTuple):
    """What each of some heads has."""

    array: Array
    axis: int | None
    """0: a row a head; None: all have the same."""


class Forward:
    """The arrays of a program by their variables, computed when they are asked for."""

    def __init__(self, constants: Mapping[Var, Array], equations: Sequence[Any]):
        """Runs nothing yet."""
        self._arrays = dict(constants)
        self._same: dict[Var, Any] = {}
        self._equations: list[Any] = []
        self._made_by: dict[Var, int] = {}
        self._steps: dict[Var, Any] = {}
        self._kinds: dict[Any, int] = {}
        self._numbers: dict[Any, int] = {}
        self._rows: dict[Heads, _Rows] = {}
        self.extend(equations)

    def extend(self, equations: Sequence[Any]) -> None:
        """Adds equations of what is known."""
        for eqn in equations:
            named = eqn.replace(invars=[self._named(atom) for atom in eqn.invars])
            kinds = tuple(map(self._kind, named.invars))
            for i, v in enumerate(named.outvars):
                step = _tokens.as_slice(named, i)
                sliced = isinstance(step, _tokens.Slice)
                token = "slice" if sliced else (_tokens.token(named), i)
                self._steps[v] = step
                self._made_by[v] = len(self._equations)
                self._kinds[v] = self._number(token, v.aval.shape, kinds)
            self._equations.append(named)

    def give(self, variable: Var, array: Array, atom: Any = None) -> None:
        """An array that is known already, and what it is in this program, if it is."""
        if atom is not None and not _equations.is_literal(atom):
            self._same[variable] = self._named(atom)
        self._arrays.setdefault(self._named(variable), array)

    def __getitem__(self, variable: Var) -> Array:
        v = self._named(variable)
        if v not in self._arrays:
            self._compute(v)
        return self._arrays[v]

    def compute(self) -> None:
        """All that there is, each by itself."""
        made = [v for eqn in self._equations for v in eqn.outvars]
        self._arrays |= _equations.evaluate(self._equations, self._arrays, made)

    def rows(self, variables: Sequence[Var]) -> Array:
        """[heads, ...]: of each head a variable, all of one shape and dtype."""
        wanted = tuple(map(self._named, variables))
        waiting = [wanted]
        while waiting:
            heads = waiting[-1]
            first = self._operands(heads) if heads not in self._rows else []
            missing = [atoms for atoms in first if atoms not in self._rows]
            waiting += missing
            if not missing:
                waiting.pop()
                if heads not in self._rows:
                    self._fill(heads)
        array, axis = self._rows[wanted]
        if axis is None:
            return jnp.broadcast_to(array[None], (len(wanted), *array.shape))
        return array

    def numbers(self, variables: Sequence[Var]) -> dict[int, Array]:
        """By place, the numbers that many others are computed like: cut from rows."""
        places: dict[Var, list[int]] = {}
        groups: dict[int, list[Var]] = {}
        for i, v in enumerate(map(self._named, variables)):
            if not _equations.is_literal(v) and v in self._steps and not v.aval.shape:
                places.setdefault(v, []).append(i)
        for v in places:
            groups.setdefault(self._kinds[v], []).append(v)
        found: dict[int, Array] = {}
        for group in groups.values():
            if len(group) >= _xla.ALIKE_HEADS and self._together(tuple(group)):
                for v, number in zip(group, _xla.apart(self.rows(group)), strict=True):
                    found |= dict.fromkeys(places[v], number)
        return found

    def _named(self, atom: Any) -> Any:
        return atom if _equations.is_literal(atom) else self._same.get(atom, atom)

    def _number(self, *token: Any) -> int:
        return self._numbers.setdefault(token, len(self._numbers))

    def _kind(self, atom: Any) -> int:
        """A number that is equal for what is computed alike."""
        written = _equations.is_literal(atom)
        if not written and atom in self._kinds:
            return self._kinds[atom]
        return self._number(written, atom.aval.shape, str(atom.aval.dtype))

    def _compute(self, variable: Var) -> None:
        """By itself, with all that leads to it."""
        found: set[int] = set()
        waiting = [variable]
        while waiting:
            v = waiting.pop()
            if v not in self._arrays and self._made_by[v] not in found:
                found.add(self._made_by[v])
                eqn = self._equations[self._made_by[v]]
                waiting += _equations.variables(eqn.invars)
        equations = [self._equations[i] for i in sorted(found)]
        made = [v for eqn in equations for v in eqn.outvars]
        taken = _equations.variables(v for eqn in equations for v in eqn.invars)
        known = {v: self._arrays[v] for v in taken if v in self._arrays}
        self._arrays |= _equations.evaluate(equations, known, made)

    def _together(self, heads: Heads) -> list[Any] | None:
        """Their steps, where one program is to run for all."""
        if len({self._kinds.get(v) for v in heads}) > 1 or heads[0] not in self._steps:
            return None
        steps = [self._steps[v] for v in heads]
        return steps if _tokens.worth_a_stack(steps, self._steps) else None

    def _operands(self, heads: Heads) -> list[Heads]:
        """The rows of which theirs are made."""
        different = tuple(dict.fromkeys(heads))
        if len(different) < len(heads):
            return [different] if len(different) >= _xla.ALIKE_HEADS else []
        steps = self._together(heads)
        taken = zip(*(step.invars for step in steps or []), strict=True)
        return [
            atoms
            for atoms in taken
            if not _equations.is_literal(atoms[0]) and len(set(atoms)) > 1
        ]

    def _fill(self, heads: Heads) -> None:
        different = tuple(dict.fromkeys(heads))
        if len(different) == 1:
            self._rows[heads] = _Rows(self[heads[0]], None)
        elif len(different) < len(heads):
            if different not in self._rows:
                self._rows[different] = self._side_by_side(different)
            array, axis = self._rows[different]
            places = np.asarray([different.index(v) for v in heads])
            self._rows[heads] = _Rows(array if axis is None else array[places], axis)
        elif not self._fill_together(heads):
            self._rows[heads] = self._side_by_side(heads)

    def _fill_together(self, heads: Heads) -> bool:
        """By one program, if there is one."""
        steps = self._together(heads)
        if steps is None:
            return False
        try:
            results = self._run(steps)
        except NotImplementedError:  # an operation without a rule for stacks
            return False
        outputs = zip(*(step.outvars for step in steps), strict=True)
        self._rows |= zip(outputs, results, strict=True)
        return True

    def _side_by_side(self, heads: Heads) -> _Rows:
        rows = [lax.expand_dims(self[v], (0,)) for v in heads]
        return _Rows(lax.concatenate(rows, 0), 0)

    def _run(self, steps: Sequence[Any]) -> list[_Rows]:
        """One program for all; of what takes the same for all, that of the first."""
        first = steps[0]
        named: list[Any] = []
        operands: list[_Rows] = []
        fresh = core.gensym()
        for atoms in zip(*(step.invars for step in steps), strict=True):
            if not _equations.is_literal(atoms[0]):
                same = all(v is atoms[0] for v in atoms)
                known = _Rows(self[atoms[0]], None) if same else self._rows[atoms]
            else:
                numbers = np.stack([np.asarray(atom.val) for atom in atoms])
                if (numbers == numbers[:1]).all():
                    named.append(atoms[0])
                    continue
                known = _Rows(jnp.asarray(numbers, atoms[0].aval.dtype), 0)
            operands.append(known)
            named.append(fresh(atoms[0].aval))
        if isinstance(first, _tokens.Slice):
            starts = np.asarray([step.starts for step in steps], np.int32)
            (x,) = operands
            return [_Rows(*_blocks.cut_rows(*x, starts, first.out.aval.shape))]
        axes = [operand.axis for operand in operands]
        if all(axis is None for axis in axes):
            return [_Rows(self[v], None) for v in first.outvars]
        variables = [v for v in named if not _equations.is_literal(v)]
        run = _equations.function(
            variables, first.outvars, [first.replace(invars=named)]
        )
        arrays = jax.vmap(run, axes)(*(operand.array for operand in operands))
        return [_Rows(array, 0) for array in arrays]


def forward(program: core.ClosedJaxpr) -> tuple[Forward, list[Any]]:
    """The arrays of a program that takes nothing, and the variables of its results."""
    _, results, equations, constants = _equations.written_out(program)
    return Forward(constants, equations), results
