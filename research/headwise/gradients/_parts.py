"""The linear program in parts: equations that lead to the same heads, transposed.

Parts are in the order of the backward pass, from the values to the parameters. What
leads to many heads feeds what leads to some of them, never the reverse, so that parts
of fewer heads come first. Of `_linear`'s example::

    {loss1}         loss1 = C h     takes C, h     gives loss1
    {loss2}         loss2 = D h     takes D, h     gives loss2
    {loss1, loss2}  h = 5 A         takes A        gives h

What leads to the same heads may be cut further: products of activations with
parameters apart from all else, or wherever a large parameter comes, so that its
gradients are complete early.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from jax.extend import core

from headwise.gradients import _equations
from headwise.gradients import _linear
from headwise.gradients import _transpose
from headwise.gradients import _weight_products
from headwise.gradients._equations import Var
from headwise.gradients._transpose import Cotangents

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
    """The set of heads."""
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    pull: Callable[[Cotangents], Cotangents]
    """Cotangents of its outputs to those of its inputs, for the outputs given."""
    stacks: bool = True
    """Whether cotangents of several heads may be pulled back as a stack."""


def parts(linear: _linear.Linear, large: int | None, by_head: bool) -> list[Part]:
    """All parts in the order of the backward pass; see `_cut.cut` for the arguments."""
    used = {v for v in linear.values if v is not None}
    transposed = []
    for heads, equations in reversed(_blocks(linear, large, by_head)):
        produced = [v for eqn in equations for v in eqn.outvars]
        outputs = tuple(v for v in produced if v in used and linear.heads.get(v, 0))
        inputs = tuple(
            v
            for v in _equations.variables(v for eqn in equations for v in eqn.invars)
            if v not in linear.known and v not in set(produced)
        )
        used |= set(inputs)
        products = (
            by_head
            and heads.bit_count() > 1
            and all(_weight_products.is_weight_product(linear, e) for e in equations)
        )
        transpose = _weight_products.pullback if products else _transpose.pullback
        pull = transpose(linear.known, equations)
        transposed.append(Part(heads, inputs, outputs, pull, stacks=not products))
    return transposed


def leading_to(wanted: set[Var], parts: Sequence[Part]) -> list[Part]:
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


def _blocks(
    linear: _linear.Linear, large: int | None, by_head: bool
) -> list[tuple[int, list]]:
    """The equations of each part with its set of heads, in the order of the program."""
    groups: dict[int, list] = {}
    for eqn, heads in zip(linear.equations, linear.groups, strict=True):
        groups.setdefault(heads, []).append(eqn)
    blocks: list[tuple[int, list]] = []
    for heads in sorted(groups, key=lambda heads: -heads.bit_count()):
        if heads.bit_count() == 1 or not by_head:
            cut = [groups[heads]]
        elif large is None:
            cut = _products_apart(groups[heads], linear)
        else:
            cut = _ending_at_large_params(groups[heads], linear, large)
        blocks += [(heads, equations) for equations in cut]
    return blocks


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


def _ending_at_large_params(
    equations: Sequence[Any], linear: _linear.Linear, large: int
) -> list[list]:
    """The equations in forward order, in blocks that end where large parameters come.

    A block of products of parameters with known activations comes before what uses
    them, so that on the way back the former finish before anything else goes on.
    """
    from_params = set(linear.params)
    blocks: list[list] = []
    products: list = []
    others: list = []
    for eqn in equations:
        taken = [v for v in _equations.variables(eqn.invars) if v not in linear.known]
        calls = any(True for _ in core.jaxprs_in_params(eqn.params))
        if calls or not all(v in from_params for v in taken):
            others.append(eqn)
            continue
        direct = [v for v in taken if v in linear.params]
        if any(_equations.nbytes(v) >= large for v in direct):
            blocks += [products, others]
            products, others = [], []
        products.append(eqn)
        if eqn.primitive.name in _MOVES:
            from_params.update(eqn.outvars)
    return [block for block in (*blocks, products, others) if block]
