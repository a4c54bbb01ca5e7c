"""Balancers that go by how values develop, against float64 NumPy over many steps."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

B = hw.balancers
NAMES = ("a", "b", "c")
STEPS = 12
VALUES = np.random.default_rng(0).uniform(0.2, 3.0, size=(STEPS, 3))
KEYS = jax.random.split(jax.random.key(0), STEPS)


def loop(balancer, values, present=None, keys=KEYS, state=None, names=NAMES):
    """Runs over values [T, H] and present [T, H]; weights [T, H] and the last state."""
    present = np.ones(np.shape(values), bool) if present is None else present
    rows = jnp.asarray(values, jnp.float32), jnp.asarray(present), keys[: len(values)]

    @jax.jit
    def run(state):
        def body(state, row):
            signals = hw.Signals(row[0], present=row[1], key=row[2])
            decision, state = balancer.update(signals, state)
            return state, decision.weights

        return jax.lax.scan(body, state, rows)

    state, weights = run(balancer.init(names) if state is None else state)
    return np.asarray(weights), state


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


class Adam:
    """Adam in float64."""

    def __init__(self, rate):
        self.rate, self.t, self.m, self.v = rate, 0, 0.0, 0.0

    def __call__(self, slope):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * slope
        self.v = 0.999 * self.v + 0.001 * slope**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return -self.rate * m / (np.sqrt(v) + 1e-8)


def imtl_l(values, s=0.3, rate=0.05):
    s, adam = np.full(3, s), Adam(rate)
    for v in values:
        yield np.exp(s)
        s = s + adam(np.exp(s) * v - 1)


def dwa(values, temperature=2.0, window=1):
    for t in range(len(values)):
        done = t // window
        means = [values[k * window : (k + 1) * window].mean(0) for k in range(done)]
        ratio = means[-1] / means[-2] if done >= 2 else np.ones(3)
        yield 3 * softmax(ratio / temperature)


def famo(values, least, decay=1e-3, rate=0.025):
    logits, adam, last = np.zeros(3), Adam(rate), None
    for v in values:
        distance = v - least
        if last is not None:
            z = softmax(logits)
            jacobian = np.diag(z) - np.outer(z, z)
            delta = np.log(last) - np.log(distance)
            logits = logits + adam(jacobian @ delta + decay * logits)
        w = softmax(logits) / distance
        yield w / w.sum()
        last = distance


def group_means(u, groups):
    """Of the best split of sorted scalars, found by trying them all."""
    order = np.argsort(u)
    best = None
    for cuts in itertools.combinations(range(1, len(u)), groups - 1):
        parts = np.split(order, cuts)
        cost = sum(np.sum((u[p] - u[p].mean()) ** 2) for p in parts)
        if best is None or cost < best[0]:
            best = cost, parts
    out = np.zeros_like(u)
    for part in best[1]:
        out[part] = u[part].mean()
    return out


def go4align(values, groups, eta=0.1):
    p = np.full(3, 1 / 3)
    for v in values:
        p = p * np.exp(-eta * v)
        p = p / p.sum()
        yield group_means(p * v.sum() / v, groups)


def ldc(values, penalty=0.3, rate=0.05, chain=False):
    pairs = [(0, 1), (1, 2)] if chain else [(0, 1), (1, 2), (0, 2)]
    factor = 1.0 if chain else 2 / 3

    def discrepancy(logits, v):
        x = softmax(logits) * v
        return factor * sum(abs(x[i] - x[j]) for i, j in pairs)

    def total(logits, v):
        return softmax(logits) @ v + penalty * discrepancy(logits, v)

    def slope(f, x, h=1e-6):
        return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(3)])

    logits, adam = np.zeros(3), Adam(rate)
    for v in values:
        yield slope(lambda v, logits=logits: total(logits, v), v)
        logits = logits + adam(slope(lambda x, v=v: discrepancy(x, v), logits))


def softadapt(values, beta=2.0, normalized=False, loss_weighted=False):
    for t, v in enumerate(values):
        rate = v - values[t - 1] if t else np.zeros(3)
        if normalized and t:
            rate = rate / np.abs(rate).sum()
        w = softmax(beta * rate) * (v if loss_weighted else 1.0)
        yield w / w.sum()


def relobralo(values, alpha=0.7, tau=0.5, rho=0.6):
    w = np.ones(3)
    for t, v in enumerate(values):
        if t:
            stay = bool(jax.random.bernoulli(KEYS[t], rho))
            history = w if stay else 3 * softmax(v / (tau * values[0]))
            w = alpha * history + (1 - alpha) * 3 * softmax(v / (tau * values[t - 1]))
        yield w


def uw_so(values, temperature=0.7):
    for v in values:
        yield softmax(1 / v / temperature)


ADAM = optax.adam(0.05)
LEAST = np.array([0.1, -0.2, 0.0])
FORMULAS = {
    "imtl_l": (B.imtl_l(ADAM, 0.3), imtl_l),
    "dwa": (B.dwa(), dwa),
    "dwa, windows": (B.dwa(0.5, 3), functools.partial(dwa, temperature=0.5, window=3)),
    "famo": (
        B.famo(False, dict(zip(NAMES, LEAST.tolist()))),
        functools.partial(famo, least=LEAST),
    ),
    "famo, strong decay": (
        B.famo(False, decay=0.5, learning_rate=0.1),
        functools.partial(famo, least=0.0, decay=0.5, rate=0.1),
    ),
    "go4align, 1": (B.go4align(1, 0.1), functools.partial(go4align, groups=1)),
    "go4align, 2": (B.go4align(2, 0.1), functools.partial(go4align, groups=2)),
    "go4align, 3": (B.go4align(3, 0.1), functools.partial(go4align, groups=3)),
    "ldc": (B.ldc(0.3, ADAM), ldc),
    "ldc, chain": (B.ldc(0.3, ADAM, "chain"), functools.partial(ldc, chain=True)),
    "ldc, no penalty": (B.ldc(0.0, ADAM), functools.partial(ldc, penalty=0.0)),
    "softadapt": (B.softadapt(2.0), softadapt),
    "softadapt, normalized": (
        B.softadapt(-2.0, normalized=True),
        functools.partial(softadapt, beta=-2.0, normalized=True),
    ),
    "softadapt, loss-weighted": (
        B.softadapt(2.0, loss_weighted=True),
        functools.partial(softadapt, loss_weighted=True),
    ),
    "relobralo": (B.relobralo(0.7, 0.5, 0.6), relobralo),
    "uw_so": (B.uw_so(0.7), uw_so),
}


@functools.cache
def weights_of(name):
    return loop(FORMULAS[name][0], VALUES)[0]


@pytest.mark.parametrize("name", FORMULAS)
def test_weights_follow_the_formula(name):
    expected = np.stack(list(FORMULAS[name][1](VALUES)))
    # Twelve steps in float32; softmaxes multiply the rounding by their logits, up to 7.
    np.testing.assert_allclose(weights_of(name), expected, rtol=2e-5, atol=1e-6)


SUMS = {
    "dwa": 3,
    "dwa, windows": 3,
    "famo": 1,
    "ldc, no penalty": 1,
    "softadapt, loss-weighted": 1,
    "relobralo": 3,
    "uw_so": 1,
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_over_the_heads_present(name):
    np.testing.assert_allclose(weights_of(name).sum(1), SUMS[name], rtol=1e-6)
    present = np.random.default_rng(1).random((STEPS, 3)) < 0.7
    present[0] = [True, True, False]
    present[3] = False
    values = np.where(present, VALUES, np.nan)
    weights, _ = loop(FORMULAS[name][0], values, present)
    assert (weights[~present] == 0).all()
    count = present.sum(1)
    expected = count if SUMS[name] == 3 else np.minimum(count, 1)
    np.testing.assert_allclose(weights.sum(1), expected, rtol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_absent_head_keeps_its_state(name):
    """All but logs of the last weights, and the window of dwa, which closes."""
    balancer = FORMULAS[name][0]
    _, before = loop(balancer, VALUES[:7])
    row = VALUES[7:8].copy()
    row[0, 1] = np.nan
    present = np.array([[True, False, True]])
    _, after = loop(balancer, row, present, state=before)
    skip = {"weights"} if name == "uw_so" else set()
    for field in set(before._fields) - skip:
        pair = getattr(before, field), getattr(after, field)
        for old, new in zip(*map(jax.tree.leaves, pair), strict=True):
            if jnp.shape(old) == (3,) and field not in ("summed", "number"):
                if name.startswith("dwa"):  # a window ended: what it saw is moved in
                    continue
                assert old[1] == new[1], field


def test_published_totals():
    """TorchJD, tests/unit/scalarization: IMTLL([1, 2, 4]) = 7, UW([1, 2, 4]) = 3.5."""
    values = np.array([[1.0, 2.0, 4.0]])
    weights, _ = loop(B.imtl_l(), values)
    assert (weights * values).sum() == 7.0  # minus Σ s = 0
    weights, _ = loop(B.uncertainty(), values)
    assert (weights * values).sum() == 3.5  # plus Σ s / 2 = 0


def test_imtl_l_comes_to_rest_where_weighted_values_are_one():
    """On a quadratic problem: values a (x - c)² + b of one shared parameter."""
    a, c, b = jnp.array([1.0, 5.0]), jnp.array([0.0, 1.0]), jnp.array([0.1, 20.0])
    balancer = B.imtl_l(optax.sgd(0.1))

    def values_of(x):
        return a * (x - c) ** 2 + b

    @jax.jit
    def run():
        def body(carry, _):
            x, state = carry
            values, pull = values_of(x), 2 * a * (x - c)
            decision, state = balancer.update(hw.Signals(values), state)
            # Slower than s, as far as s allows.
            x = x - 0.02 * jnp.sum(decision.weights * pull)
            return (x, state), (decision.weights * values, decision.weights)

        return jax.lax.scan(
            body, (jnp.float32(3.0), balancer.init(("a", "b"))), length=2000
        )

    (x, _), (weighted, weights) = run()
    np.testing.assert_allclose(weighted[-1], [1.0, 1.0], rtol=1e-5)
    # There the gradient of Σ log value vanishes.
    np.testing.assert_allclose(jnp.sum(weights[-1] * a * (x - c)), 0.0, atol=1e-5)


def train_famo(second_forward):
    """Two quadratics a x² of a parameter each; log values of every step, weights."""
    a = jnp.array([1.0, 4.0])
    balancer = B.famo(second_forward, optimizer=optax.sgd(8.0))
    assert (balancer.after is not None) == second_forward

    @jax.jit
    def run():
        def body(carry, _):
            x, state = carry
            decision, state = balancer.update(hw.Signals(a * x**2), state)
            moved = x - 0.02 * decision.weights * 2 * a * x
            if balancer.after is not None:
                state = balancer.after(a * moved**2, state)
            return (moved, state), (jnp.log(a * x**2), decision.weights)

        start = jnp.array([1.0, 0.5]), balancer.init(("a", "b"))
        return jax.lax.scan(body, start, length=400)[1]

    return tuple(map(np.asarray, run()))


def test_famo_makes_all_logs_fall_at_the_same_rate():
    logs, weights = train_famo(second_forward=True)
    early, late = np.diff(logs[:3], axis=0)[0], np.diff(logs, axis=0)[-1]
    assert early[1] < 3 * early[0] < 0
    # Logs down to -13 are rounded at 1e-6, their differences are 0.06.
    np.testing.assert_allclose(late[0], late[1], rtol=1e-4)
    np.testing.assert_allclose(weights[-1], [0.8, 0.2], rtol=1e-4)
    assert (late < -0.05).all()


def test_famo_forms_agree_where_batches_are_the_same():
    """The next batch's values are then those after the step."""
    _, second = train_famo(second_forward=True)
    _, following = train_famo(second_forward=False)
    np.testing.assert_allclose(second, following, rtol=1e-4)  # 400 steps in float32


def test_famo_judges_only_heads_of_this_batch():
    balancer = B.famo()
    _, state = loop(balancer, VALUES[:1], np.array([[True, False, True]]))
    after = balancer.after(jnp.array([0.1, jnp.nan, 5.0]), state)
    assert after.logits[1] == 0.0
    assert after.logits[0] < 0 < after.logits[2]
    for leaf in jax.tree.leaves(after):
        assert np.isfinite(leaf).all()


def test_scale_of_a_head_does_not_matter_where_ratios_count():
    scale = np.array([1e-6, 1.0, 1e6])
    for name in ("dwa, windows", "relobralo"):
        scaled, _ = loop(FORMULAS[name][0], VALUES * scale)
        np.testing.assert_allclose(scaled, weights_of(name), rtol=2e-5)
    name = "softadapt, normalized"
    scaled, _ = loop(FORMULAS[name][0], VALUES * 1e6)
    np.testing.assert_allclose(scaled, weights_of(name), rtol=2e-5)
    # famo and imtl_l at rest: the share of the total that a head has.
    plain, _ = loop(B.famo(False), VALUES)
    scaled, _ = loop(B.famo(False), VALUES * scale)
    shares = [
        w * v / (w * v).sum(1, keepdims=True)
        for w, v in ((plain, VALUES), (scaled, VALUES * scale))
    ]
    np.testing.assert_allclose(shares[0], shares[1], rtol=2e-5)


def test_dwa_windows():
    """Means of windows of two; the first two windows have equal weights."""
    values = np.array([1.0, 3, 2, 6, 0, 0, 1, 1, 7, 7])  # means 2, 4, 0, 1, 7
    rows = np.stack([values, np.ones(10)], axis=1)
    weights, _ = loop(B.dwa(1.0, window=2), rows, names=("a", "b"))
    for window, ratio in enumerate([1.0, 1.0, 2.0, 0.0]):
        expected = 2 * softmax(np.array([ratio, 1.0]))
        np.testing.assert_allclose(
            weights[2 * window : 2 * window + 2], [expected] * 2, rtol=1e-6
        )
    np.testing.assert_allclose(weights[8:], [[2.0, 0.0]] * 2)  # 1 / 0 is very large
    # 0 / 0: no change.
    weights, _ = loop(B.dwa(), np.zeros((4, 3)))
    np.testing.assert_allclose(weights, 1.0, rtol=1e-6)
    # Absent for all of the second window: the means are of the first and the third.
    present = np.ones((8, 2), bool)
    present[2:4, 0] = False
    weights, _ = loop(B.dwa(1.0, window=2), rows[:8], present, names=("a", "b"))
    expected = 2 * softmax(np.array([0.0, 1.0]))  # 0 / 2
    np.testing.assert_allclose(weights[6:], [expected] * 2, rtol=1e-6)


def test_ldc_comes_to_rest_where_weighted_values_are_equal():
    values = np.tile([0.5, 1.0, 4.0], (3000, 1))
    keys = jax.random.split(jax.random.key(0), 3000)
    rate = optax.sgd(optax.cosine_decay_schedule(0.05, 3000))
    for pairs in ("all", "chain"):
        balancer = B.ldc(0.0, rate, pairs)
        weights, _ = loop(balancer, values, keys=keys)
        # Subgradient steps of size below 1e-3 by then.
        np.testing.assert_allclose(weights[-1] * values[-1], 1 / 3.25, rtol=5e-3)


def test_relobralo_looks_back_when_told():
    always, _ = loop(B.relobralo(1.0, 0.5, rho=0.0), VALUES)
    expected = [3 * softmax(v / (0.5 * VALUES[0])) for v in VALUES[1:]]
    np.testing.assert_allclose(always[1:], expected, rtol=1e-5)
    never, _ = loop(B.relobralo(1.0, 0.5, rho=1.0), VALUES)
    np.testing.assert_array_equal(never, 1.0)


EDGES = [[0.0, 0, 0], [1e-10, 0, 1], [-1, 0, 1], [2, 2, 2], [1e30, 1e-30, 1], [0, 0, 0]]


@pytest.mark.parametrize("name", FORMULAS)
def test_finite_whatever_the_values(name):
    """Also over changes from one edge to another, and back."""
    balancer = FORMULAS[name][0]
    weights, state = loop(balancer, np.array(EDGES + EDGES[::-1]))
    for leaf in (weights, *jax.tree.leaves(state)):
        assert np.isfinite(leaf).all()
    assert (weights >= 0).all()
    if name != "famo":  # its minima are of three heads
        weights, _ = loop(balancer, VALUES[:, :1], names=("a",))
        assert (weights > 0).all()


def test_imtl_l_stays_in_float32_where_a_value_is_zero():
    weights, state = loop(
        B.imtl_l(optax.sgd(10.0)),
        np.zeros((20, 1)),
        keys=jax.random.split(jax.random.key(0), 20),
        names=("a",),
    )
    np.testing.assert_array_equal(state.log_weight, 80.0)
    assert np.isfinite(weights).all()


def test_no_gradient_flows_through_the_weights():
    for name, (balancer, _) in FORMULAS.items():
        state = balancer.init(NAMES)

        def total(values, balancer=balancer, state=state):
            key = jax.random.key(0)
            decision, new = balancer.update(hw.Signals(values, key=key), state)
            leaves = [x for x in jax.tree.leaves(new) if x.dtype == jnp.float32]
            return sum(map(jnp.sum, [decision.weights, *leaves]))

        slope = jax.grad(total)(jnp.array([1.0, 2.0, 3.0]))
        np.testing.assert_array_equal(slope, 0.0, err_msg=name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: B.dwa(0.0), r"temperature: expected a positive number, got 0\.0"),
        (lambda: B.dwa(window=0), "window: expected a positive int, got 0"),
        (lambda: B.dwa(window=2.5), r"window: expected a positive int, got 2\.5"),
        (lambda: B.famo(learning_rate=0.0), "learning_rate: expected a positive"),
        (
            lambda: B.famo(min_values={"a": 0.0}).init(["a", "b"]),
            r"min_values: .*missing \['b'\]",
        ),
        (lambda: B.go4align(0), "groups: expected a positive int, got 0"),
        (lambda: B.go4align(iterations=0), "iterations: expected a positive int"),
        (lambda: B.go4align(step_size=-1), "step_size: expected a number >= 0, got -1"),
        (lambda: B.ldc(-0.1), r"penalty: expected a number >= 0, got -0\.1"),
        (lambda: B.ldc(pairs="ring"), "pairs: expected one of .*got 'ring'"),
        (lambda: B.relobralo(alpha=1.5), r"alpha: .*\[0, 1\], got 1\.5"),
        (lambda: B.relobralo(rho=-0.5), r"rho: .*\[0, 1\], got -0\.5"),
        (lambda: B.relobralo(temperature=0), "temperature: expected a positive"),
        (lambda: B.uw_so(-1.0), r"temperature: expected a positive number, got -1\.0"),
    ],
)
def test_misuse_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_list_of_minima_is_refused():
    with pytest.raises(TypeError, match="min_values: expected a dict by name"):
        B.famo(min_values=[0.0, 1.0])


def test_temperature_may_be_traced():
    """One program for a sweep over it."""

    @jax.jit
    def weights(temperature):
        balancer = B.uw_so(temperature)
        signals = hw.Signals(jnp.array([1.0, 2.0]))
        return balancer.update(signals, balancer.init(("a", "b")))[0].weights

    for t in (0.5, 2.0):
        expected = softmax(np.array([1.0, 0.5]) / t)
        np.testing.assert_allclose(weights(t), expected, rtol=1e-6)
