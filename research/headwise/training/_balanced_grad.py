"""One gradient of many heads, as a balancer decides."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise import _values_fn
from headwise import balancers
from headwise.training import _gradient_to_apply
from headwise.training import _info
from headwise.training import _model
from headwise.training import _trainable
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def balanced_grad(
    values_fn: ValuesFn,
    balancer: balancers.Balancer | None = None,
    private: str = "weighted",
    has_aux: bool = False,
    head_grads: bool = False,
    *,
    stateful: bool = False,
    trainable: Any = None,
    wrt: Any = None,
    stored: bool | None = None,
    method: str = "auto",
    microbatches: int = 1,
    axis_name: str | tuple[str, ...] | None = None,
) -> Callable[..., tuple[PyTree, _info.Info, Any]]:
    """Transforms `values_fn` into a function that returns the gradient to apply.

    Only what the balancer needs is computed, in the cheapest way:

    ========== ============================================= =======================
    needs      what runs                                     backward passes
    ========== ============================================= =======================
    values     one weighted pass                             1
    gramian    head gradients, kept and combined             H
    gramian    gramian only, then one weighted pass          H + 1, in less memory
    gramian    with wrt="features": private parts, then one  1
    grads      head gradients                                H
    ========== ============================================= =======================

    A pass of a head goes through its own private part and the shared one; the private
    parts of all heads together cost one pass.

    Heads that share no parameter are problems of their own: such a balancer is asked
    about each group of heads that are linked as if the others were not there, and a
    head alone keeps its own gradient, with weight 1.

    A balancer that wants several independent batches (`modo`, `sdmgrad`) gets as many
    equal parts of the first of `args` along the leading axis of its arrays: H passes
    through each of two parts, and one through the third if it wants three.

    A head is absent in a step if `values_fn` says so (`hw.Means`: all masked) or
    `present` does, or if its gradient is not finite and the balancer looks at gradients
    (`info.broken`). Its weight is 0 then, and the balancer is shown `present` and 0 for
    all that concerns it. `info.present` tells.

    Args:
        values_fn: `(params, *args) -> values`, or of the other kinds that
            `hw.head_grads` takes.
        balancer: of `hw.balancers`; None means the weights of the `hw.Objective` that
            made the values, 1 each without any: see `hw.training.make_step`.
        private: what parameters that one head alone reaches get: "weighted", the
            gradient of Σ w_h value_h as everywhere (Keras); "own", their head's own
            unweighted gradient (LibMTL, TorchJD).
        has_aux: `values_fn` returns (values, aux); aux is `info.aux`.
        head_grads: compute the head gradients in any case, for `info.grads`.
        stateful: `values_fn` is `(params, rest, batch, key) -> (values, rest)`; the
            rest that comes back is `info.aux`.
        trainable: the parameters to train, all with None: a predicate on paths or a
            prefix of flags, as `wrt`. The others are constants of the model, as by
            `jax.lax.stop_gradient`: no pass goes to them, no head reaches them, and
            their gradient is 0. (An optimiser with weight decay or momentum moves them
            all the same: `trainable` of `hw.training.make_step` sees to that.)
        wrt: what a gramian is taken over. None: the *shared* parameters, those that
            two or more heads reach, found from the program (and those of heads that
            reach none), as in MGDA and its successors. A predicate on paths or a prefix
            of flags, as in `hw.head_grads`: GradNorm's last shared layer. "features":
            the arrays between the shared and the private parts (MGDA-UB).
        stored: for a balancer that needs a gramian: keep the head gradients and
            combine them (True), or drop them and run one more pass (False). None: keep
            them while they take less than 256 MiB or than what the forward pass keeps.
        method: how the heads go through the shared part, as in `hw.head_grads`.
        microbatches: cut the first of `args` into so many parts along the leading axis
            of its arrays and go through them one after the other (`lax.scan`), in the
            memory of one; part i holds the examples i, i + n, i + 2 n ... Values and
            head gradients, and so the gramian, are those of the whole batch: Σ count *
            mean / Σ count with the counts of `hw.Means`, or means over the parts for
            values in a plain dict, which must be plain means then. Head gradients are
            kept, a pass a head. A balancer that needs the values alone takes one
            weighted pass, after a forward pass through all parts that tells it the
            values, or with static weights none. aux is that of the last part; every
            part gets the same other arguments. With `stateful` it is the batch that is
            cut; a part gets the rest of the one before, and the key `fold_in(key, i)`.
        axis_name: inside of `jax.shard_map`, of an axis (or several) over which
            parameters are split and gathered where they are used (FSDP): the gramian is
            that of all devices' rows. Head gradients are kept then.

    Returns:
        `f(params, state, *args, key=None, step=None, present=None)` -> (grads, info,
        state), where state is the balancer's and so is `key` (with `stateful`, args are
        rest, batch and the model's own key), `step` an int scalar for schedules and
        `present` {name: bool} or [H] bool for heads that have no data. A head of weight
        0 leaves no trace in the gradient, even if its loss or private part is NaN.

    Raises:
        ValueError: unknown `private` or `method`; `wrt` selects nothing; the state is
            of other heads; the balancer lacks a signal (it names it); `microbatches` or
            the balancer's `batches` do not divide the batch, come together or with
            features, or meet a head whose value is no mean over examples (Dice over
            the batch); `axis_name` with features, or with a balancer that looks at
            gradients themselves, whose lengths it cannot add up; `has_aux` with
            `stateful`; `trainable` selects nothing.
        TypeError: `balancer` is none (a factory must be called); when called, as
            `hw.head_grads`.

    Example:
        >>> def values_fn(p, x):
        ...     return {"a": (p["w"] * x - 1.0) ** 2, "b": (p["w"] * x + 1.0) ** 2}
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.5})
        >>> f = hw.balanced_grad(values_fn, balancer)
        >>> grads, info, _ = f({"w": 3.0}, balancer.init(["a", "b"]), 1.0)
        >>> print(grads["w"], info.values["a"], info.weights["b"])  # 1 * 4 + 0.5 * 8
        8.0 4.0 0.5
    """
    model = _trainable.others_fixed(values_fn, trainable)
    _checks.boolean("stateful", stateful)
    if stateful:
        has_aux = _values_fn.as_one(model, has_aux, stateful)[1]
        model = _model.with_rest(model, stateful)
    balanced = _gradient_to_apply.gradient_to_apply(
        model,
        balancer,
        private,
        has_aux,
        head_grads,
        wrt=wrt,
        stored=stored,
        method=method,
        microbatches=microbatches,
        stateful=stateful,
        axis_name=axis_name,
    )

    def transformed(
        params: PyTree,
        state: Any,
        *args: Any,
        key: Array | None = None,
        step: Array | int | None = None,
        present: Mapping[str, Array] | Array | None = None,
    ) -> tuple[PyTree, _info.Info, Any]:
        if stateful:
            _values_fn.check_number(1 + len(args))
            rest, batch, of_model = args
            args = (batch, rest, of_model)
        result, _ = balanced(params, state, args, key, step, present)
        return result

    return transformed
