"""Tricks played on compilers: what is done for XLA alone, and where it starts to pay.

None of them changes what is computed. Each has a canary in
`experiments/benchmarks/canaries.py`, which runs it with and without and fails when it
no longer helps; then it goes. All were seen with jax 0.10.2 on CPU (x86, two cores).
The gain is what a program costs without over what it costs with the trick: when it came
in, or by the canaries alone on an Intel Xeon on 2026-11-28. It depends on the machine
(turned activations: up to 2 on an AMD EPYC). What shows no gain is a candidate to go;
elimination stays, for safety.

======================== ================================ ===================== ====
trick                    why                              decided by            gain
======================== ================================ ===================== ====
turned activations       products read them across        turns_activations     1.04
stacked heads            few large products, not many     stacks_heads          1.07
heads one by one         stacks leave the caches          STACKED_SIZE          1.15
heads that are alike     a copy a head takes minutes      ALIKE_HEADS           3.1
some heads at a time     stacks leave the caches          heads_at_once         1.8
stacks cut by reductions a compiled loop for each slice   apart                 1.9
ordered heads            passes run at once, in memory    after                 1.6
gradients let go         the same, side by side           hold                  1.04
parts at large params    gradients complete early         LARGE_PART            1.0
long arrays pair by pair stacking copies them             PAIRWISE_SIZE         6.2
sums in one loop         terms are stored before          TOGETHER_ROWS         1.6
bits of a flag           2^H copies of a loop             `zero_where`          0.9
kept gradients           a pass less                      KEPT_BYTES            1.0
exponentials kept        computed anew in every use       keeps_arrays          1.0
sums as products         sums with factors are slow       sums_by_products      50
channels written out     short inner loops                WRITTEN_OUT           2.6
convolution as products  3-D and in loops it is slow      convolves_by_products 3
neighbours in a row      narrow products are slow         CONVOLUTION_BLOCK     1.5
problems in turn         a batch waits for its last       solves_in_turn        1.3
elimination              LAPACK calls wait in threads     SWEPT_HEADS           0.8
steps one by one         convolutions in loops are slow   slow_in_loops         12
kernels by few axes      draws of many axes compile long  drawn_as              3.6
haste of what runs once  random numbers compile for long  once_options          3
======================== ================================ ===================== ====

What is here is read when a program is traced, as `_xla.NAME`. The code of a trick is
here too if it is of use to several layers, else in its layer. Choices that would be
right for any compiler (an algorithm, a sort of one array in place of two) are no tricks
and live where they are made.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from headwise import _numerics
from headwise.typing import Array

STACKED_SIZE = 2**18
"""Heads go through the shared part one by one where it multiplies by a parameter of
more entries: a stack of cotangents and the parameter leave the caches together."""

ALIKE_HEADS = 16
"""From so many heads that differ in data alone on, one program runs for all of them; a
copy a head is faster by what a compiler sees in it, and takes time to compile. (A step
with 14 linear heads of one number: 0.16 ms and 4.9 s in copies, 0.72 ms and 4.3 s as
one program.)"""

AT_ONCE_BYTES = 2**18
"""Heads that are alike go through that program so many at a time that their cotangents
take no more. (On CPU, where it is about what the caches hold.)"""

CUT_TOGETHER = 16
"""Rows of a stack that one loop writes into arrays of their own; a loop with more takes
longer to run than a loop for each."""

LARGE_PART = 8
"""A part of the shared program ends where a parameter is used that has at least this
part of the largest one's bytes, so that a gramian can let its gradients go."""

PAIRWISE_SIZE = 2**16
PAIRWISE_HEADS = 16
"""Gradients at least so long, of at most so many heads, are multiplied pair by pair.
A product of the stacked gradients would copy them; of more heads it reads them less."""

TOGETHER_ROWS = (2**5, 2**10)
"""Least and greatest last axis of arrays that one loop reduces side by side; shorter
rows make short inner loops, longer ones lose small terms of their sums."""

TOGETHER_ARRAYS = 16
"""The most arrays that one such loop takes; with more it runs out of registers."""

KEPT_BYTES = 2**28
"""Head gradients that take less are kept and combined; more are dropped for one more
pass through the model. Memory, where it is cheap, against time."""

WRITTEN_OUT = 16
LOGIT_WRITTEN_OUT = 15
"""Up to so many classes a loop over positions has the channels written out; above,
channels are a vector axis. The second: the logit of a label, read once, in no other
loop."""

SUMMED_BLOCK = 1024
"""Positions that are summed in one row of float32; longer rows would lose counts."""

CONVOLUTION_BLOCK = 4
"""Outputs along the last axis that a row of the matrix product yields; fastest of 1, 2,
4 and 8."""

SWEPT_HEADS = 16
"""Up to so many heads systems are solved by one elimination, free of LAPACK, whose
batched calls can wait for each other for ever when several are under way on few cores.
Products of such matrices are sums there: with jax 0.12 some fused `dot`s were wrong by
a percent."""


def on_cpu() -> bool:
    """Whether programs that are traced now will run on a CPU by default."""
    return jax.default_backend() == "cpu"


def turns_activations() -> bool:
    """Whether activations that many heads share are transposed once, in memory."""
    return on_cpu()


def stacks_heads(has_batched_products: bool, largest_factor: int) -> bool:
    """Whether heads go through the shared part as a stack.

    On accelerators always. On CPU where products are stacks of small matrices anyway
    (attention), unless its parameters are large.
    """
    return not on_cpu() or (has_batched_products and largest_factor <= STACKED_SIZE)


def heads_at_once(heads: int, nbytes: int) -> int:
    """How many heads that are alike go through their program at a time.

    Args:
        heads: in all.
        nbytes: of one head's cotangents.
    """
    limit = AT_ONCE_BYTES if on_cpu() else KEPT_BYTES
    return max(1, min(heads, limit // max(nbytes, 1)))


def apart(stack: Array) -> list[Array]:
    """The rows of a stack, unchanged.

    Of many rows on CPU by reductions of several operands, row after a zero: a loop that
    has several results, where every slice would be compiled to a loop of its own. Of
    many numbers by their places: a number after a zero would be a branch for each.
    """
    number = len(stack)
    floating = stack.dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)
    typed = _axes(stack) or _numerics.has_sharding_type(stack)
    few = (
        number < ALIKE_HEADS or not stack.size or not isinstance(stack, jax.core.Tracer)
    )
    if few or typed or not (floating or stack.dtype == bool) or not on_cpu():
        return list(stack)
    size = CUT_TOGETHER if stack.ndim > 1 else number  # of numbers all in one
    rows: list[Array] = []
    while len(rows) < number:
        end = min(len(rows) + size, number)
        rows += _rows_together(lax.slice_in_dim(stack, len(rows), end))
    return rows


def apart_if_short(stack: Array) -> list[Array]:
    """The rows, for what goes on with each: of long ones slices, fused with that."""
    if stack[0].size >= PAIRWISE_SIZE:
        return list(stack)
    return apart(stack)


@jax.custom_jvp
def _cut_together(stack: Array) -> tuple[Array, ...]:
    """The rows of a stack in one loop."""
    zero = lax.full((), False if stack.dtype == bool else -0.0, stack.dtype)
    if stack.ndim == 1:
        index, zeros = lax.iota(jnp.int32, len(stack)), lax.full_like(stack, zero)
        rows = [lax.select(index == i, stack, zeros) for i in range(len(stack))]
    else:
        lengthen = [(0, 1, 0)] + [(0, 0, 0)] * (stack.ndim - 1)
        each = [lax.slice_in_dim(stack, i, i + 1) for i in range(len(stack))]
        rows = [lax.pad(row, zero, lengthen) for row in each]
    add = lax.bitwise_or if stack.dtype == bool else lax.add

    def added(*sides: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(map(add, *sides))

    return tuple(lax.reduce(tuple(rows), (zero,) * len(rows), added, (0,)))


@_cut_together.defjvp
def _cut_together_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    return _cut_together(*primals), tuple(tangents[0])


_rows_together = jax.jit(
    _cut_together, inline=True
)  # traced once for all stacks of one type


def loops_over_convolutions() -> bool:
    """Whether a convolution in a loop, or of a stack, is as fast as a copy a head."""
    return not on_cpu()


def solves_in_turn(matrix: Array) -> bool:
    """Whether many problems with one matrix are solved one after the other.

    On CPU where they go through LAPACK, whose calls take them in turn anyway: each ends
    when it is solved, not when all are, in the memory of one.
    """
    many = on_cpu() and len(matrix) > SWEPT_HEADS
    return many and not _numerics.has_sharding_type(matrix)


def slow_in_loops(program: core.ClosedJaxpr) -> bool:
    """Whether a program is slower in a compiled loop than called again and again.

    Gradients of convolutions are, 4 to 80 times on CPU (16 images of 16^2: 12; 8 of
    32^2: 80; 32 of 8^2: 4; volumes: 1.05). Nothing else was: products of matrices,
    reductions, sorts, scatters, factorisations, random numbers take 0.6 to 1.2.
    """
    return on_cpu() and any(map(convolves, program.eqns))


def drawn_as(shape: Sequence[int], axes: int) -> tuple[int, ...]:
    """The shape in which the first numbers of a kernel [*K, in, out] are drawn.

    On CPU a loop nest of five axes is compiled for 1.0 s (jax 0.10.2), the same bits of
    two axes for 0.2 s, of three for 0.3 s. Two keep the fan-in, three both fans.
    """
    if len(shape) <= axes:
        return tuple(shape)
    return (math.prod(shape[: 1 - axes]), *shape[1 - axes :])


def once_options() -> dict[str, Any]:
    """Options to compile what runs once, as the making of a first state.

    It draws random numbers: six kernels of convolutions take 3.8 s of LLVM on jax
    0.10.2, 34 s on 0.12, and 1.3 s on both at a lower level, with the same bits. Who
    has all programs compiled at the lowest level (JAX's own setting) keeps that.
    """
    lowest = jax.config.read("jax_disable_most_optimizations")
    return {"xla_backend_optimization_level": 1} if on_cpu() and not lowest else {}


def convolves(equation: core.JaxprEqn) -> bool:
    """Whether it is a convolution, or has one in a program inside of it."""
    return equation.primitive.name == "conv_general_dilated" or any(
        convolves(inner)
        for program in core.jaxprs_in_params(equation.params)
        for inner in program.eqns
    )


def multiplies_pairwise(size: int, heads: int) -> bool:
    """Whether gradients of that many entries are multiplied pair by pair."""
    return size >= PAIRWISE_SIZE and heads <= PAIRWISE_HEADS


def reduces_together(array: Array) -> bool:
    """Whether one loop over several arrays like this one is faster: long ones."""
    if array.size < PAIRWISE_SIZE or _numerics.has_sharding_type(array):
        return False
    least, most = TOGETHER_ROWS
    return on_cpu() and least <= array.shape[-1] <= most


def sums_by_products(x: Array) -> bool:
    """Whether a sum over positions with factors is made a product of matrices.

    So is one over a leading axis of heads, which jaxlib 0.10 makes a slow loop of: 0.3
    to 0.8 ms by products where sums of [4, 512, 512] to [32, 256, 256] take 20 to 70.
    """
    return on_cpu() and not _numerics.has_sharding_type(x)


def convolves_by_products() -> bool:
    """Whether a convolution is written out as products of matrices."""
    return on_cpu()


def keeps_arrays(x: Array) -> bool:
    """Whether an array is held in memory by a loop that never runs.

    CPU compilers drop an `optimization_barrier` before they fuse, and then compute the
    array anew in every use.
    """
    return x.size > 0 and not _numerics.has_sharding_type(x)


def after(x: Array, done: Array) -> Array:
    """x, unchanged, but not before `done` is computed.

    Compilers interleave independent backward passes, and then the intermediate arrays
    of all of them are alive at once. `lax.optimization_barrier` alone does not order
    them on every backend, so that x gets a true dependency: it adds the lowest bit of
    n (n + 1), which is 0. Where `done` differs between devices and x does not, that
    would change the type of x, and x is not ordered.
    """
    if _axes(done) - _axes(x):
        return x
    if _numerics.has_sharding_type(done):
        return lax.optimization_barrier((x, done))[0]
    first = jnp.real(done[(0,) * done.ndim]) if done.size else jnp.zeros(())
    n = jnp.sum(lax.bitcast_convert_type(first, jnp.uint8).astype(jnp.uint32))
    return x + (n * (n + 1) & 1).astype(x.dtype)


def hold(pending: Any, done: Array) -> tuple[Any, Array]:
    """Both unchanged; nothing goes on from `pending` before `done` is computed.

    A barrier gives one type to all that passes it: each type has its own, and what
    would come to differ between devices through `done` has none.
    """
    leaves, structure = jax.tree.flatten(pending)
    held = done
    for axes in {_axes(x) for x in leaves}:
        if _axes(done) <= axes:
            mine = [i for i, x in enumerate(leaves) if _axes(x) == axes]
            *group, last = lax.optimization_barrier([*(leaves[i] for i in mine), done])
            held = last if axes == _axes(done) else held
            for i, x in zip(mine, group, strict=True):
                leaves[i] = x
    return jax.tree.unflatten(structure, leaves), held


def _axes(array: Array) -> frozenset[str]:
    return _numerics.varying_axes(jax.typeof(array))
