"""What all balancers around other balancers have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.balancers import _inner


def marked():
    """A balancer with every field set, none as by default."""
    return hw.balancers.Balancer(
        init=_inner.counting().init,
        update=_inner.counting().update,
        needs="gramian",
        due=lambda state: state % 2 == 0,
        after=lambda values, state: state + 10 * jnp.sum(values),
        batches=2,
        static=True,
        alone=lambda state: 0.5 + 0 * state,
        together=True,
    )


AROUND = {
    "clip_heads": lambda b: hw.balancers.clip_heads(b, 1.0),
    "clipped": hw.balancers.clipped,
    "cr_mogm": hw.balancers.cr_mogm,
    "every": lambda b: hw.balancers.every(1, b),
    "fallback": hw.balancers.fallback,
    "rescaled": hw.balancers.rescaled,
    "smoothed": hw.balancers.smoothed,
    "warm_up": lambda b: hw.balancers.warm_up(b, 0),
    "with_preferences": lambda b: hw.balancers.with_preferences(
        b, {"a": 1.0, "b": 1.0}
    ),
}


# `clip_heads` looks at the gradients of one batch, in each step: its own test.
@pytest.mark.parametrize("name", sorted(AROUND.keys() - {"clip_heads"}))
def test_all_fields_are_passed_on(name):
    inner = marked()
    assert all(
        getattr(inner, field) != default
        for field, default in hw.balancers.Balancer._field_defaults.items()
    )
    outer = AROUND[name](inner)
    assert (outer.needs, outer.batches, outer.static) == ("gramian", 2, True)
    assert outer.together
    state = outer.init(_inner.NAMES)
    dues = []
    for _ in range(3):
        dues.append(bool(outer.due(state)))
        _, state = outer.update(_inner.signals(), state)
    if name == "every":  # its own clock, on purpose: it says when the inner one is due
        assert dues == [True, True, True]
    else:
        assert dues == [True, False, True]
    assert state.inner == 3
    assert np.all(outer.alone(state) == (1.0 if name == "rescaled" else 0.5))
    assert outer.after(jnp.array([1.0, 0.0]), state).inner == 13


@pytest.mark.parametrize("name", hw.balancers.WRAPPERS)
def test_what_the_inner_one_has_not_stays_none(name):
    outer = AROUND[name](hw.balancers.mgda())
    assert outer.after is None
    assert (outer.due is not None) == (name == "every")
    # What bounds, scales or weighs by itself does so to heads that share nothing.
    own = ("clip_heads", "clipped", "rescaled", "with_preferences")
    assert (outer.alone is not None) == (name in own)


WRAPPERS = {
    "with_preferences": lambda b: hw.balancers.with_preferences(
        b, {"a": 2.0, "b": 0.5}
    ),
    "smoothed": lambda b: hw.balancers.smoothed(b, 0.5),
    "clipped": lambda b: hw.balancers.clipped(b, 0.1, 0.8),
    "rescaled": hw.balancers.rescaled,
    "warm_up": lambda b: hw.balancers.warm_up(b, 2),
    "idle warm_up": lambda b: hw.balancers.warm_up(b, 2, observe=False),
    "fallback": hw.balancers.fallback,
    "all": lambda b: hw.balancers.every(
        2,
        hw.balancers.smoothed(
            hw.balancers.rescaled(
                hw.balancers.clipped(hw.balancers.warm_up(hw.balancers.fallback(b), 1))
            )
        ),
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_training_lowers_the_values(name):
    balancer = WRAPPERS[name](hw.balancers.mgda())
    optimizer = optax.sgd(0.03)
    xs = jnp.broadcast_to(_inner.X[:1], (12, *_inner.X[0].shape))
    step = hw.training.make_step(_inner.values_fn, optimizer, balancer)
    state = hw.training.init_state(
        _inner.NAMES, _inner.make_params(), optimizer, balancer
    )
    loop, infos = state, []
    compiled = jax.jit(step)
    for x in xs:
        loop, info = compiled(loop, x)
        infos.append(info)
    scanned, stacked = jax.jit(lambda s: jax.lax.scan(step, s, xs))(state)
    for a, b in zip(
        jax.tree.leaves((loop.params, loop.balancer)),
        jax.tree.leaves((scanned.params, scanned.balancer)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    first, last = infos[0].values, infos[-1].values
    assert sum(last.values()) < sum(first.values())
    assert np.isfinite(stacked.weights["a"]).all()


@pytest.mark.parametrize("name", ["with_preferences", "rescaled", "warm_up"])
def test_a_direction_goes_through(name):
    balancer = WRAPPERS[name](hw.balancers.graddrop())
    f = jax.jit(hw.balanced_grad(_inner.values_fn, balancer))
    state = balancer.init(_inner.NAMES)
    for t in range(3):
        grads, info, state = f(
            _inner.make_params(), state, _inner.X[t], key=jax.random.key(t)
        )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((grads, info.weights)))


def test_misuse_is_named():
    mgda, graddrop = hw.balancers.mgda(), hw.balancers.graddrop()
    with pytest.raises(ValueError, match=r"preferences\['a'\]: expected a positive"):
        hw.balancers.with_preferences(mgda, {"a": 0.0})
    with pytest.raises(TypeError, match="preferences: expected a dict"):
        hw.balancers.with_preferences(mgda, [1.0])
    with pytest.raises(ValueError, match=r"preferences: .*missing \['b'\]"):
        hw.balancers.with_preferences(mgda, {"a": 1.0}).init(_inner.NAMES)
    with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\)"):
        hw.balancers.smoothed(mgda, 1.0)
    with pytest.raises(ValueError, match="smoothing: expected a number"):
        hw.balancers.cr_mogm(mgda, -0.1)
    with pytest.raises(ValueError, match=r"upper: expected a number >= lower, 1.0"):
        hw.balancers.clipped(mgda, 1.0, 0.5)
    with pytest.raises(ValueError, match="lower: expected a number, not NaN"):
        hw.balancers.clipped(mgda, float("nan"))
    for total in ("batch", 0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="total: expected 'heads' or a positive"):
            hw.balancers.rescaled(mgda, total)
    for steps in (-1, 1.5):
        with pytest.raises(ValueError, match="steps: expected an int >= 0"):
            hw.balancers.warm_up(mgda, steps)
    for name in ("smoothed", "cr_mogm", "clipped"):
        balancer = getattr(hw.balancers, name)(graddrop)
        f = hw.balanced_grad(_inner.values_fn, balancer)
        with pytest.raises(ValueError, match=f"{name}: expected .* with weights, got"):
            jax.eval_shape(
                f,
                _inner.make_params(),
                balancer.init(_inner.NAMES),
                _inner.X[0],
                key=jax.random.key(0),
            )
