"""A head without data in a step: as if it were not there, in every kind of step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.balancers import _cases

l2 = optax.losses.squared_error
NAMES = _cases.NAMES
REST = ("a", "c")
rng = np.random.default_rng(0)
SHAPES = {"trunk": (3, 4), "a": (4, 2), "b": (4, 1), "c": (4, 1)}
PARAMS = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
X = jnp.asarray(rng.normal(size=(12, 3)), jnp.float32)
NOTHING = jnp.zeros(12, bool)
OPTIMIZER = optax.sgd(0.05)
# Most of the time goes into making code that runs once.
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def model(names, params, x, where=None, **options):
    """Regressions from one trunk, the masked ones for `b` alone."""
    h = jnp.tanh(x @ params["trunk"])
    outputs = {n: h @ params[n] for n in names}
    targets = {n: jnp.full_like(outputs[n], ord(n) - 96) for n in names}
    objective = hw.Objective(dict.fromkeys(names, l2))
    where = None if where is None else {"b": where}
    return objective.values(outputs, targets, where=where, **options)


def stepped(values_fn, names, balancer, **options):
    """A step as one program, and the first state."""
    step = hw.training.make_step(values_fn, OPTIMIZER, balancer, **options)
    state = hw.training.init_state(names, PARAMS, OPTIMIZER, balancer)
    return jax.jit(step, compiler_options=QUICKLY), state


def way(name):
    """All that a step knows of a balancer, and whether it draws by position."""
    case, balancer = _cases.CASES[name], _cases.make(name)
    asked = ("due", "after", "alone")
    told = balancer._replace(init=None, update=None, **dict.fromkeys(asked))
    return case.random, told, *(getattr(balancer, a) is None for a in asked)


def one_of_each_way():
    """The names of the first balancer of each way, and of all that draw.

    That the update of each balancer leaves out who is absent is in
    `tests/balancers/absent_heads_test.py`, but for those that draw.
    """
    seen = {}
    for name, case in _cases.CASES.items():
        seen.setdefault((case.random and name, *way(name)), name)
    return list(seen.values())


# More of the kinds of state: of optimizers, of moving averages, of other balancers.
MORE = {"famo", "gls", "uncertainty", "mgda", "sdmgrad", "moco", "fallback", "warm_up"}


@pytest.mark.parametrize("name", sorted({*one_of_each_way(), *MORE}))
def test_a_masked_head_changes_nothing_for_the_others(name):
    """An Objective whose mask is all False, in `make_step`, against the head removed.

    Where a balancer draws by position, against the same that is told by `present`.
    """
    case, balancer = _cases.CASES[name], _cases.make(name)
    got = stepped(lambda p, batch: model(NAMES, p, *batch), NAMES, balancer)

    def alone(params, batch):
        return model(REST, params, batch[0])

    def told(state, batch):
        """As `make_step` does with a key of 0 and plain descent."""
        f = hw.balanced_grad(lambda p, x: model(NAMES, p, x), balancer)
        here, t = {"a": True, "b": False, "c": True}, state.step
        _, key = jax.random.split(jax.random.fold_in(jax.random.key(0), t))
        grads, info, of_balancer = f(
            state.params, state.balancer, batch[0], key=key, step=t, present=here
        )
        params = jax.tree.map(lambda p, g: p - 0.05 * g, state.params, grads)
        state = state._replace(step=t + 1, params=params, balancer=of_balancer)
        return state, info

    if case.random:
        want = jax.jit(told, compiler_options=QUICKLY), got[1]
    else:
        want = stepped(alone, REST, _cases.make(name, REST))
    (step, state), (step_alone, state_alone) = got, want
    for _ in range(2):
        state, info = step(state, (X, NOTHING))
        state_alone, alone_info = step_alone(state_alone, (X, NOTHING))
        for n in REST:
            np.testing.assert_allclose(
                info.weights[n], alone_info.weights[n], rtol=1e-3, atol=1e-5
            )
            assert info.present[n]
        assert info.weights["b"] == 0.0
        assert not info.present["b"]
        assert info.broken is None or not any(map(bool, info.broken.values()))
    for leaf in PARAMS:
        np.testing.assert_allclose(
            state.params[leaf], state_alone.params[leaf], rtol=2e-4, atol=2e-6
        )
    np.testing.assert_array_equal(state.params["b"], PARAMS["b"])


def test_issue_by_hand():
    """w x against x where w = 1/2: the gradient is -3.5, and c says nothing of it."""
    x = jnp.arange(4.0)

    def values_fn(p, where):
        objective = hw.Objective({"a": l2, "c": l2})
        out = {"a": p["w"] * x, "c": p["w"] * x}
        return objective.values(out, {"a": x, "c": x}, where={"c": where})

    for balancer in (hw.balancers.mgda(), hw.balancers.gls()):
        sgd = optax.sgd(0.1)
        state = hw.training.init_state(["a", "c"], {"w": 0.5}, sgd, balancer)
        step = hw.training.make_step(values_fn, sgd, balancer, contributions=True)
        state, info = jax.jit(step)(state, jnp.zeros(4, bool))
        np.testing.assert_allclose(state.params["w"], 0.85, rtol=1e-6)
        assert {n: bool(x) for n, x in info.present.items()} == {"a": True, "c": False}
        np.testing.assert_array_equal(info.contributions.share, [[1.0, 0.0]])
        assert info.values.counts["c"] == 0


def test_batches_that_alternate_between_two_tasks():
    """Kendall's log variances, by a run in NumPy that touches only the task at hand."""
    values, s = {"a": 4.0, "b": 0.25}, {"a": 0.0, "b": 0.0}

    def values_fn(p, task):
        objective = hw.Objective({n: lambda y, t: y * t for n in values})
        where = {n: jnp.full(3, task == i) for i, n in enumerate(values)}
        targets = {n: jnp.full(3, v) for n, v in values.items()}
        return objective.values(
            {n: p * jnp.ones(3) for n in values}, targets, where=where
        )

    balancer = hw.balancers.uncertainty(optimizer=optax.sgd(0.5))
    still = optax.sgd(0.0)
    step = jax.jit(hw.training.make_step(values_fn, still, balancer))
    state = hw.training.init_state(["a", "b"], jnp.ones(()), still, balancer)
    for t in range(8):
        task = "ab"[t % 2]
        state, info = step(state, t % 2)
        np.testing.assert_allclose(
            info.weights[task], 0.5 * np.exp(-s[task]), rtol=1e-5
        )
        s[task] -= 0.5 * (0.5 - 0.5 * np.exp(-s[task]) * values[task])
    got = state.balancer.log_variance
    np.testing.assert_allclose(got, [s["a"], s["b"]], rtol=1e-5)


@pytest.mark.parametrize("needs", ["values", "gramian", "grads"])
def test_a_balancer_that_forgets_presence_makes_no_nan(needs):
    """A head that is NaN where absent, and broken where gradients are looked at."""

    def values_fn(p, batch):
        del batch
        bad = jnp.sum(p["trunk"]) * jnp.nan
        told = model(REST, p, X) | hw.Means({"b": bad}, present={"b": False})
        return told if needs == "values" else told | {"d": bad}

    def update(signals, state):
        total = signals.values
        if signals.gram is not None:
            total = total + jnp.sum(signals.gram, 1)
        direction = None
        if signals.grads is not None:
            direction = jax.tree.map(lambda *g: sum(g), *signals.grads.values())
        return hw.balancers.Decision(total, direction), state

    balancer = hw.balancers.Balancer(lambda names, params=None: (), update, needs)
    names = NAMES if needs == "values" else (*NAMES, "d")
    step, state = stepped(values_fn, names, balancer, contributions=True)
    state, info = step(state, (X, NOTHING))
    for leaf in jax.tree.leaves(state.params):
        assert np.isfinite(leaf).all()
    assert not info.present["b"]
    assert not info.broken["b"]
    share = info.contributions.share
    np.testing.assert_array_equal(share[:, 1], 0.0)
    np.testing.assert_array_equal(info.contributions.norm[:, 1], 0.0)
    np.testing.assert_allclose(np.sum(share, 1), [1, 0, 1, 1], rtol=1e-5)
    if needs != "values":
        assert info.broken["d"]
        assert not info.present["d"]


WHERE = jnp.arange(12) < 5  # the parts of three: 2, 2 and 1; of four 2, 1, 1, 1
IGNORED = jnp.where(WHERE, jnp.arange(12) % 2, 255)
SAMPLES = jnp.where(WHERE, jnp.linspace(0.5, 2.0, 12), 0.0)


def ragged(params, batch):
    """A mask, an ignored label, weights of examples, and a plain mean."""
    x, where, labels, weights = batch
    h = jnp.tanh(x @ params["trunk"])
    objective = hw.Objective(
        {
            "a": functools.partial(hw.losses.cross_entropy, ignore=255),
            "b": l2,
            "c": l2,
            "d": l2,
        }
    )
    outputs = {"a": h @ params["a"], "b": h @ params["b"], "c": h @ params["c"], "d": h}
    targets = {n: jnp.ones_like(y) for n, y in outputs.items()} | {"a": labels}
    return objective.values(
        outputs, targets, where={"b": where}, sample_weights={"c": weights}
    )


RAGGED = (X, WHERE, IGNORED, SAMPLES)


class TestParts:
    @pytest.mark.parametrize("microbatches", [3, 4])
    def test_equal_the_whole(self, microbatches):
        """Values, gradients, gramian: means over labels that lie unevenly."""
        balancer, names = hw.balancers.imtl_g(), ("a", "b", "c", "d")

        def run(parts):
            f = hw.balanced_grad(ragged, balancer, head_grads=True, microbatches=parts)
            return jax.jit(f)(PARAMS, balancer.init(names), RAGGED)[:2]

        (whole, want), (parts, got) = run(1), run(microbatches)
        for one, other in (
            (got.values, want.values),
            (got.grads, want.grads),
            (got.gramian, want.gramian),
            (parts, whole),
        ):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
                one,
                other,
            )
        assert float(got.values.counts["b"]) == 5

    @pytest.mark.parametrize(
        ("microbatches", "batch", "value"),
        [
            # (1 + 1 + 16) / 3, not the mean of 1 and 16; one part without a label.
            (2, [[1.0, 1.0], [4.0, np.nan]], 6.0),
            (2, [[1.0, 2.0], [np.nan, np.nan]], 2.5),
        ],
    )
    def test_by_hand(self, microbatches, batch, value):
        def values_fn(p, y):
            objective = hw.Objective({"a": l2})
            out = jnp.broadcast_to(p, y.shape)
            return objective.values({"a": out}, {"a": y}, where=~jnp.isnan(y))

        balancer = hw.balancers.equal()
        f = hw.balanced_grad(values_fn, balancer, microbatches=microbatches)
        y = jnp.array(batch)
        grads, info, _ = f(0.0, balancer.init(["a"]), y)
        assert float(info.values["a"]) == value
        assert float(grads) == float(-2 * jnp.nanmean(y))
        assert info.present["a"]

    def test_of_bilevel_steps(self):
        method = hw.training.auto_lambda()

        def run(**options):
            step = hw.training.make_bilevel_step(ragged, OPTIMIZER, method, **options)
            names = ("a", "b", "c", "d")
            state = hw.training.init_bilevel_state(names, PARAMS, OPTIMIZER, method)
            return jax.jit(step)(state, (RAGGED, RAGGED))

        (want, whole), (got, parts) = run(), run(microbatches=3)
        for one, other in (
            (got.params, want.params),
            (parts.values, whole.values),
            (parts.slopes, whole.slopes),
        ):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-4, atol=1e-5),
                one,
                other,
            )
        assert parts.present["b"]

    def test_two_batches_need_a_head_in_both(self):
        balancer = hw.balancers.modo(0.5, 0.0, batches=2)
        f = jax.jit(hw.balanced_grad(lambda p, b: model(NAMES, p, *b), balancer))
        state = balancer.init(NAMES)
        for where, here in ((jnp.arange(12) < 2, True), (jnp.arange(12) < 1, False)):
            _, info, _ = f(PARAMS, state, (X, where))
            assert bool(info.present["b"]) == here
            want = model(NAMES, PARAMS, X, where)
            np.testing.assert_allclose(info.values["b"], want["b"], rtol=1e-5)


def test_bilevel_validation_without_labels_is_left_out():
    """MOML: the min-norm combination of the others, not 0."""
    method = hw.training.moml()
    step = jax.jit(
        hw.training.make_bilevel_step(
            lambda p, batch: model(NAMES, p, *batch), OPTIMIZER, method
        )
    )
    state = hw.training.init_bilevel_state(NAMES, PARAMS, OPTIMIZER, method)
    got = step(state, ((X, ~NOTHING), (X, NOTHING)))[1]
    assert float(got.shares["b"]) == 0.0
    assert float(got.shares["a"]) > 0
    got = step(state, ((X, NOTHING), (X, ~NOTHING)))[1]
    assert not got.present["b"]
    assert float(got.weights["b"]) == 0.0


def test_under_vmap_and_sampled_contributions():
    """A mask a member of a vmapped sweep; a monitor that sees no data of `b`."""
    balancer = hw.balancers.imtl_g()
    step = hw.training.make_step(
        lambda p, where: model(NAMES, p, X, where), OPTIMIZER, balancer, contributions=2
    )
    state = hw.training.init_state(NAMES, PARAMS, OPTIMIZER, balancer)
    masks = jnp.stack([NOTHING, ~NOTHING])
    _, info = jax.jit(jax.vmap(step, (None, 0)))(state, masks)
    np.testing.assert_array_equal(info.present["b"], [False, True])
    np.testing.assert_array_equal(info.values.counts["b"], [0, 12])
    np.testing.assert_array_equal(info.contributions.norm[0, :, 1], 0.0)
    assert (info.contributions.norm[1, -1, 1] > 0) or info.contributions.norm[1].any()
