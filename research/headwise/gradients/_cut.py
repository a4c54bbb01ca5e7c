"""Backward passes through the linearised model: private parts, then the shared one."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from headwise import _numerics
from headwise.gradients import _linear
from headwise.gradients import _weight_products
from headwise.typing import Array

Var: TypeAlias = Any
"""A variable of the linear program."""

Cotangents: TypeAlias = dict[Var, Array]
"""Of values, features or parameters: for one head, or a weighted sum over heads."""

Rows: TypeAlias = dict[Var, dict[int, Array]]
"""{variable: {head: its cotangent}}."""

_MOVES = (
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "mul",
    "neg",
    "reshape",
    "rev",
    "slice",
    "squeeze",
    "transpose",
)
"""What may stand between a parameter and the product that it goes into."""


class Part(NamedTuple):
    """Equations of the linear program that lead to the same heads, transposed."""

    heads: int
    """Bit set of the heads."""
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    pull: Callable[[Cotangents], Cotangents]
    """Cotangents of its outputs to those of its inputs, for the outputs given."""
    stacks: bool = True
    """Whether cotangents of several heads may be pulled back as a stack."""


class Cut(NamedTuple):
    """The backward program in order: the private parts, then the shared ones."""

    linear: _linear.Linear
    private: dict[int, Part]
    """By head; heads whose value is a shared variable have none."""
    shared: tuple[Part, ...]
    """From the values down to the parameters."""

    @property
    def features(self) -> tuple[Any, ...]:
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
        found = (v for part in reversed(self.shared) for v in part.inputs)
        return tuple(dict.fromkeys(v for v in found if v in params))


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
    groups: dict[int, list] = {}
    for eqn, heads in zip(linear.equations, linear.groups, strict=True):
        groups.setdefault(heads, []).append(eqn)
    # What leads to many heads feeds what leads to some of them, never the reverse.
    ordered = sorted(groups, key=lambda heads: -heads.bit_count())
    blocks: list[tuple[int, list]] = []
    for heads in ordered:
        if heads.bit_count() == 1 or not by_head:
            blocks.append((heads, groups[heads]))
        elif large is None:
            blocks += [(heads, b) for b in _products_apart(groups[heads], linear)]
        else:
            blocks += [(heads, b) for b in _blocks(groups[heads], linear, large)]
    used = {v for v in linear.values if v is not None}
    parts = []
    for heads, equations in reversed(blocks):
        produced = [v for eqn in equations for v in eqn.outvars]
        outputs = tuple(v for v in produced if v in used and linear.heads.get(v, 0))
        inputs = tuple(
            v
            for v in _linear.variables(v for eqn in equations for v in eqn.invars)
            if v not in linear.known and v not in set(produced)
        )
        used |= set(inputs)
        products = (
            by_head
            and heads.bit_count() > 1
            and all(_weight_products.is_weight_product(linear, e) for e in equations)
        )
        transpose = _weight_products.pullback if products else _pullback
        pull = transpose(linear, equations)
        parts.append(Part(heads, inputs, outputs, pull, stacks=not products))
    shared = [part for part in parts if part.heads.bit_count() > 1]
    if flags is not None:
        shared = _leading_to(
            {v for v, on in zip(linear.params, flags, strict=True) if on}, shared
        )
    return Cut(
        linear,
        {p.heads.bit_length() - 1: p for p in parts if p.heads.bit_count() == 1},
        tuple(shared),
    )


def _leading_to(wanted: set[Var], parts: Sequence[Part]) -> list[Part]:
    """The parts that lead to one of the wanted variables, and to nothing else."""
    wanted, kept = set(wanted), []
    for part in reversed(parts):
        inputs = tuple(v for v in part.inputs if v in wanted)
        if inputs:
            wanted.update(part.outputs)
            kept.append(part._replace(inputs=inputs, pull=_only(inputs, part.pull)))
    return kept[::-1]


def _only(inputs: tuple[Var, ...], pull: Callable) -> Callable:
    def some(cotangents: Cotangents) -> Cotangents:
        return {v: ct for v, ct in pull(cotangents).items() if v in inputs}

    return some


def _products_apart(equations: Sequence[Any], linear: _linear.Linear) -> list[list]:
    """Products of activations with parameters one by one, then all else."""
    apart: list[list] = []
    others: list = []
    for eqn in equations:
        if _weight_products.is_weight_product(linear, eqn):
            apart.append([eqn])
        else:
            others.append(eqn)
    return [*apart, others] if others else apart


def _blocks(equations: Sequence[Any], linear: _linear.Linear, large: int) -> list[list]:
    """The equations in forward order, in blocks that end where large parameters come.

    A block of products of parameters with known activations comes before what uses
    them, so that on the way back the former finish before anything else goes on.
    """
    from_params = set(linear.params)
    blocks: list[list] = []
    products: list = []
    others: list = []
    for eqn in equations:
        taken = [v for v in _linear.variables(eqn.invars) if v not in linear.known]
        calls = any(True for _ in core.jaxprs_in_params(eqn.params))
        if calls or not all(v in from_params for v in taken):
            others.append(eqn)
            continue
        direct = [v for v in taken if v in linear.params]
        if any(_linear.nbytes(v) >= large for v in direct):
            blocks += [products, others]
            products, others = [], []
        products.append(eqn)
        if eqn.primitive.name in _MOVES:
            from_params.update(eqn.outvars)
    return [block for block in (*blocks, products, others) if block]


def _pullback(linear: _linear.Linear, equations: Sequence[Any]) -> Callable:
    traced: dict[tuple, tuple] = {}

    def pull(cotangents: Cotangents) -> Cotangents:
        outputs = tuple(cotangents)
        if outputs not in traced:
            traced[outputs] = _transposed(linear, equations, outputs)
        inputs, reached, transpose = traced[outputs]
        found = transpose(list(cotangents.values()))
        return {v: ct for v, ct in zip(inputs, found, strict=True) if v in reached}

    return pull


def _transposed(
    linear: _linear.Linear, equations: Sequence[Any], outputs: tuple
) -> tuple[list, set, Callable]:
    """Inputs of the equations, which of them the outputs depend on, the transpose."""
    reached, kept = set(outputs), []
    for eqn in reversed(equations):
        mine = reached & set(eqn.outvars)
        if mine:
            kept.append(eqn)
            reached |= {v for v, on in _linear.users(eqn) if mine & set(on)}
    kept.reverse()
    produced = {v for eqn in kept for v in eqn.outvars}
    taken = _linear.variables(v for eqn in kept for v in eqn.invars)
    known = [v for v in taken if v in linear.known]
    inputs = [v for v in taken if v not in linear.known and v not in produced]
    function = _linear.function([*known, *inputs], outputs, kept)
    arrays = [linear.known[v] for v in known]

    def forward(*tangents: Array) -> list[Array]:
        return function(*arrays, *tangents)

    if not any(_numerics.varying_axes(v.aval) for v in inputs):
        transpose = jax.linear_transpose(forward, *map(_linear.struct, inputs))
        return inputs, reached, transpose
    # `linear_transpose` takes no types that differ between devices.
    _, transpose = jax.vjp(forward, *map(_linear.zeros, inputs))
    return inputs, reached, transpose


def seed(linear: _linear.Linear, head: int) -> Cotangents:
    """The cotangent 1 of a head's value; empty if no parameter reaches it."""
    v = linear.values[head]
    return {} if v is None else {v: linear.ones[head]}


def private(cut: Cut, head: int, start: Cotangents) -> Cotangents:
    """From a head's value to its private parameters and to what it shares."""
    part = cut.private.get(head)
    if part is None or not start:
        return start
    given = {v: ct for v, ct in start.items() if v in part.outputs}
    return part.pull(given) if given else start


def shared(cut: Cut, cotangents: Cotangents) -> Cotangents:
    """From features to the parameters; cotangents of parameters are passed on."""
    cotangents = dict(cotangents)
    for part in cut.shared:
        given = {v: cotangents.pop(v) for v in part.outputs if v in cotangents}
        if given:
            add(cotangents, part.pull(given))
    return cotangents


def add(total: Cotangents, more: Cotangents) -> None:
    """Sums cotangents by variable, into `total`."""
    for v, ct in more.items():
        total[v] = total[v] + ct if v in total else ct


def weighted(weights: Array, cotangents: Sequence[Cotangents]) -> Cotangents:
    """Σ weight * cotangent by variable; a head of weight 0 leaves no trace."""
    total: Cotangents = {}
    for h, mine in enumerate(cotangents):
        add(
            total,
            {
                v: _numerics.drop_zero_weight(weights[h].astype(ct.dtype), ct)
                for v, ct in mine.items()
            },
        )
    return total


def leaves(cut: Cut, cotangents: Cotangents) -> list[Array]:
    """The gradients of the parameters' leaves, zeros where nothing came."""
    pairs = zip(cut.linear.params, cut.linear.leaves, strict=True)
    return [cotangents[v] if v in cotangents else jnp.zeros_like(x) for v, x in pairs]


def rows(
    cut: Cut,
    starts: Sequence[Cotangents],
    batched: bool,
    done: Callable[[Var, dict[int, Array], Rows], None] | None = None,
) -> Rows:
    """The shared part for all heads in lockstep, part by part.

    Args:
        cut: the backward program.
        starts: of each head, cotangents of features and parameters.
        batched: where a part gets a cotangent from every head, pull the stack of them
            back at once.
        done: called as `done(v, {head: gradient}, on_the_way)` when the gradients of a
            parameter are complete; it may replace what is on the way. None keeps them.

    Returns:
        {parameter: {head: gradient}} of those that `done` has not taken.
    """
    now: Rows = {}
    for h, start in enumerate(starts):
        _add_row(now, h, start)
    users = dict.fromkeys(cut.linear.params, 0)
    for part in cut.shared:
        for v in part.inputs:
            if v in users:
                users[v] += 1
    if done is not None:
        for v in [v for v in now if users.get(v) == 0]:
            done(v, now.pop(v), now)
    for part in cut.shared:
        given = {v: now.pop(v) for v in part.outputs if v in now}
        heads = sorted({h for of_head in given.values() for h in of_head})
        everywhere = all(len(of_head) == len(heads) for of_head in given.values())
        if batched and part.stacks and len(heads) > 1 and everywhere:
            stacks = {v: jnp.stack([g[h] for h in heads]) for v, g in given.items()}
            found = _pull_stacks(part, stacks)
            for i, h in enumerate(heads):
                _add_row(now, h, {v: stack[i] for v, stack in found.items()})
        else:
            for h in heads:
                mine = {v: g[h] for v, g in given.items() if h in g}
                _add_row(now, h, part.pull(mine))
        for v in part.inputs:
            if v in users:
                users[v] -= 1
                if done is not None and not users[v] and v in now:
                    done(v, now.pop(v), now)
    return now


def _add_row(rows: Rows, head: int, cotangents: Cotangents) -> None:
    for v, ct in cotangents.items():
        of_head = rows.setdefault(v, {})
        of_head[head] = of_head[head] + ct if head in of_head else ct


def _pull_stacks(part: Part, stacks: Cotangents) -> Cotangents:
    keys: list[Var] = []

    def pull(cotangents: list[Array]) -> list[Array]:
        found = part.pull(dict(zip(stacks, cotangents, strict=True)))
        keys[:] = found
        return list(found.values())

    arrays = jax.vmap(pull)(list(stacks.values()))
    return dict(zip(keys, arrays, strict=True))


def lockstep_bytes(cut: Cut) -> int:
    """The most that the cotangents of all heads hold at a time in `rows`."""
    size = {v: _linear.nbytes(v) * n.bit_count() for v, n in cut.linear.heads.items()}
    now = {v for part in cut.private.values() for v in part.inputs}
    now &= {v for part in cut.shared for v in part.outputs}
    params = set(cut.linear.params)
    most = held = sum(size[v] for v in now)
    for part in cut.shared:
        now |= set(part.inputs)
        held = sum(size[v] for v in now)
        most = max(most, held)
        now -= set(part.outputs) | params
    return most


def after(x: Array, done: Array) -> Array:
    """x, unchanged, but not before `done` is computed.

    Compilers interleave independent backward passes, and then the intermediate arrays
    of all of them are alive at once. `lax.optimization_barrier` alone does not order
    them on every backend, so that x gets a true dependency: it adds the lowest bit of
    n (n + 1), which is 0.
    """
    if _numerics.has_sharding_type(done):
        return lax.optimization_barrier((x, done))[0]
    first = jnp.real(done[(0,) * done.ndim]) if done.size else jnp.zeros(())
    n = jnp.sum(lax.bitcast_convert_type(first, jnp.uint8).astype(jnp.uint32))
    return x + (n * (n + 1) & 1).astype(x.dtype)
