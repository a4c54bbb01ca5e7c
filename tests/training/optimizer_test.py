"""Optimisers that ask a step for more, and the one that holds absent heads still."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

PARAMS = {"trunk": jnp.array([1.0, -2.0]), "a": jnp.array(2.0), "b": jnp.array(3.0)}
NAMES = ("a", "b")


def values_fn(p, where):
    """Two heads of one trunk; `b` may be masked."""
    h = jnp.sum(p["trunk"] ** 2)
    objective = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error))
    outputs = {n: (p[n] * h)[None] for n in NAMES}
    targets = {n: jnp.ones(1) for n in NAMES}
    return objective.values(outputs, targets, where={"b": where[None]})


def run(optimizer, masks, balancer=None):
    balancer = balancer or hw.balancers.constant({"a": 0.5, "b": 0.25})
    step = jax.jit(hw.training.make_step(values_fn, optimizer, balancer))
    state = hw.training.init_state(NAMES, PARAMS, optimizer, balancer)
    states = [state]
    for mask in masks:
        states.append(step(states[-1], jnp.array(mask))[0])
    return states


def leaves_of_b(state):
    """What a state knows of the parameter `b`, by path."""
    found = jax.tree.leaves_with_path((state.params, state.optimizer))
    return {
        jax.tree_util.keystr(path): float(leaf)
        for path, leaf in found
        if jax.tree_util.keystr(path).endswith("['b']")
    }


@pytest.mark.parametrize(
    ("optimizer", "number"),
    [
        (optax.sgd(1e-3, momentum=0.9), 2),
        (optax.adamw(1e-2, weight_decay=0.1), 3),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)), 3),
        (
            optax.multi_transform(
                {"fast": optax.adam(1e-2), "slow": optax.sgd(1e-3, momentum=0.9)},
                {"trunk": "slow", "a": "fast", "b": "fast"},
            ),
            3,
        ),
        (optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(), 4),
    ],
    ids=["momentum", "adamw", "chain", "multi_transform", "MultiSteps"],
)
def test_holds_what_only_an_absent_head_reaches(optimizer, number):
    held = hw.training.hold_absent(optimizer)
    first, absent, back = run(held, [True, False, True])[1:]
    assert len(leaves_of_b(first)) == number
    assert leaves_of_b(absent) == leaves_of_b(first)
    assert leaves_of_b(back) != leaves_of_b(first)
    for name in ("trunk", "a"):  # those of the head that is there go on
        moved = absent.params[name] != first.params[name]
        assert np.all(moved) or "mini_step" in str(absent.optimizer)
    # Without it momentum goes on, and where all are there it changes nothing.
    plain = run(optimizer, [True, False, True])
    assert leaves_of_b(plain[2]) != leaves_of_b(plain[1])
    np.testing.assert_array_equal(first.params["b"], plain[1].params["b"])


def test_by_hand_in_a_loop_of_ones_own():
    held = hw.training.hold_absent(optax.sgd(1.0, momentum=0.5))
    params = {"w": jnp.array(1.0)}
    grads = {"w": jnp.array(1.0)}
    state = held.init(params)
    plain, _ = held.update(grads, state, params)
    assert plain["w"] == -1.0
    reaches = {"a": {"w": True}, "b": {"w": False}}
    for a, b, moved in ((True, False, -1.0), (False, True, 0.0), (False, False, 0.0)):
        present = {"a": jnp.array(a), "b": jnp.array(b)}
        got, new = held.update(grads, state, params, present=present, reaches=reaches)
        assert got["w"] == moved
        assert float(jax.tree.leaves(new)[0]) == (1.0 if a else 0.0)
    with pytest.raises(TypeError, match=r"optimizer: expected .* got 3"):
        hw.training.hold_absent(3)


def total(p):
    """0.5 a + 0.25 b, by hand."""
    h = jnp.sum(p["trunk"] ** 2)
    return 0.5 * (p["a"] * h - 1) ** 2 + 0.25 * (p["b"] * h - 1) ** 2


WANT_MORE = {
    "polyak_sgd": optax.polyak_sgd(max_learning_rate=1.0),
    "lbfgs": optax.lbfgs(),
    "reduce_on_plateau": optax.chain(
        optax.adam(1e-2), optax.contrib.reduce_on_plateau(patience=1)
    ),
    "within MultiSteps": optax.MultiSteps(
        optax.chain(optax.sgd(1e-3), optax.contrib.reduce_on_plateau(patience=1)), 2
    ),
    "sam": optax.contrib.sam(
        optax.sgd(1e-3), optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    ),
    "sam, opaque": optax.contrib.sam(
        optax.adam(1e-2),
        optax.chain(optax.contrib.normalize(), optax.sgd(0.05)),
        opaque_mode=True,
    ),
    "schedule_free": optax.contrib.schedule_free_adamw(1e-2, warmup_steps=2),
    "a schedule": optax.adamw(optax.linear_schedule(0.0, 1e-2, 3)),
    "apply_if_finite": optax.apply_if_finite(optax.adam(1e-2), 2),
}


@pytest.mark.parametrize("name", WANT_MORE)
def test_extra_arguments_are_those_of_the_weighted_total(name):
    """A loop of optax's own on the total, written out, ends at the same parameters."""
    optimizer = WANT_MORE[name]
    state = run(optimizer, [True, True, True])[-1]
    params, of_optimizer = PARAMS, optimizer.init(PARAMS)
    wants = inspect.signature(optimizer.update).parameters
    all_of_them = any(p.kind is p.VAR_KEYWORD for p in wants.values())

    @jax.jit
    def step(params, of_optimizer):
        value, grads = jax.value_and_grad(total)(params)
        told = {}
        if all_of_them and "apply_if" not in name and name != "a schedule":
            told = {"value": value, "grad": grads, "value_fn": total}
        if "grad_fn" in wants:
            told = {"grad_fn": lambda p, _: jax.grad(total)(p)}
        updates, of_optimizer = optimizer.update(grads, of_optimizer, params, **told)
        return optax.apply_updates(params, updates), of_optimizer

    for _ in range(3):
        params, of_optimizer = step(params, of_optimizer)
    for leaf in PARAMS:
        np.testing.assert_allclose(state.params[leaf], params[leaf], rtol=1e-4)
        assert np.any(state.params[leaf] != PARAMS[leaf])


def test_one_that_takes_no_others_goes_around_them():
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    within = optax.chain(
        optax.clip_by_global_norm(1.0), optax.contrib.sam(optax.sgd(0.1), adversary)
    )
    with pytest.raises(TypeError, match=r"optimizer: .* around the others, as in opt"):
        run(within, [True])
    around = optax.contrib.sam(
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), adversary
    )
    held = hw.training.hold_absent(around)
    for optimizer in (around, held):
        assert np.isfinite(run(optimizer, [True, True])[-1].params["a"])


def test_what_is_not_finite_is_passed_over_if_the_optimiser_says_so():
    """In a loop of one's own; `fit` stops there."""
    optimizer = optax.apply_if_finite(optax.sgd(0.1), 2)
    balancer = hw.balancers.equal()
    step = jax.jit(
        hw.training.make_step(lambda p, x: {"a": p["w"] * x}, optimizer, balancer)
    )
    state = hw.training.init_state(["a"], {"w": jnp.array(1.0)}, optimizer, balancer)
    for x, want in ((1.0, 0.9), (np.nan, 0.9), (1.0, 0.8)):
        state, _ = step(state, x)
        np.testing.assert_allclose(state.params["w"], want, rtol=1e-6)


def test_what_is_not_asked_for_costs_nothing():
    """The compiled step is the same with an optimiser that takes no extra arguments."""
    chained = optax.chain(optax.scale(-0.1))
    bare = optax.GradientTransformation(*chained)

    def plain(p, _):
        return {"a": jnp.sum(p["a"] * p["trunk"]), "b": jnp.sum(p["trunk"] ** 2)}

    texts = []
    for optimizer in (chained, bare):
        balancer = hw.balancers.equal()
        step = hw.training.make_step(plain, optimizer, balancer)
        state = hw.training.init_state(NAMES, PARAMS, optimizer, balancer)
        compiled = jax.jit(step).lower(state, jnp.array(True)).compile()
        texts.append(
            [line for line in compiled.as_text().splitlines() if " = " in line]
        )
    assert len(texts[0]) == len(texts[1])
