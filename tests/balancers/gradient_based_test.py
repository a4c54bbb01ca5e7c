"""MoCo, DB-MTL, ExcessMTL and trimmed means against float64 versions of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

NAMES = ("a", "b", "c")
H, P = 3, 9
PARAMS = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}
STEPS = 6


def problem(step, scale=1.0, dtype=jnp.float32):
    """Rows [H, P] in float64 and the signals of the same numbers."""
    rng = np.random.default_rng(step)
    rows = np.asarray(jnp.asarray(scale * rng.normal(size=(H, P)), dtype))
    values = rng.uniform(0.5, 2.0, size=H).astype(np.float32)
    grads = {
        n: {"b": jnp.asarray(row[:3]), "w": jnp.asarray(row[3:]).reshape(2, 3)}
        for n, row in zip(NAMES, rows)
    }
    signals = hw.Signals(jnp.asarray(values), grads=grads)
    return np.float64(rows), np.float64(values), signals


def flat(tree):
    return np.concatenate([np.ravel(np.float64(x)) for x in jax.tree.leaves(tree)])


def simplex(point):
    """By bisection on the threshold."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        total = np.maximum(point - middle, 0).sum()
        low, high = (middle, high) if total > 1 else (low, middle)
    return np.maximum(point - low, 0)


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


class Moco:
    """Fernando et al., algorithm 1; LibMTL's variant."""

    def __init__(self, libmtl, beta=0.5, gamma=0.1, rho=0.2):
        self.libmtl, self.numbers, self.k = libmtl, (beta, gamma, rho), 0
        self.y, self.w = np.zeros((H, P)), np.full(H, 1 / H)

    def __call__(self, rows, values):
        beta, gamma, rho = self.numbers
        self.k += 1
        if self.libmtl:
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True) * values[:, None]
        self.y = self.y - beta / self.k**0.5 * (self.y - rows)
        gram = self.y @ self.y.T + rho * np.eye(H)
        point = self.w - gamma / self.k**0.5 * gram @ self.w
        self.w = softmax(point) if self.libmtl else simplex(point)
        return self.w, self.w @ self.y


class DbMtl:
    """Lin et al., algorithm 1."""

    def __init__(self, beta=0.9, decay=0.5):
        self.numbers, self.k, self.m = (beta, decay), 0, np.zeros((H, P))

    def __call__(self, rows, values):
        beta, decay = self.numbers
        self.k += 1
        past = beta / self.k**decay
        logs = rows / (values + 1e-8)[:, None]
        self.m = logs + past * (self.m - logs)
        lengths = np.linalg.norm(self.m, axis=1)
        factors = lengths.max() / lengths
        return factors / (values + 1e-8), factors @ self.m


class Excess:
    """He et al., equations 6, 7 and 9, with weights that sum to H."""

    def __init__(self, step=0.5, warm_up=1):
        self.numbers, self.start = (step, warm_up), []
        self.s, self.w = np.zeros((H, P)), np.ones(H)

    def __call__(self, rows, values):
        step, warm_up = self.numbers
        self.s += rows**2
        excess = np.sum(rows**2 / np.sqrt(self.s), axis=1)
        if len(self.start) < warm_up:
            self.start.append(excess)
        else:
            self.w = self.w * np.exp(step * excess / np.mean(self.start, axis=0))
            self.w *= H / self.w.sum()
        return self.w, self.w @ rows


PAIRS = {
    "moco": (lambda: hw.balancers.moco(rho=0.2), lambda: Moco(False)),
    "moco of LibMTL": (
        lambda: hw.balancers.moco(rho=0.2, normalized=True, softmax=True),
        lambda: Moco(True),
    ),
    "db_mtl": (lambda: hw.balancers.db_mtl(decay=0.5), DbMtl),
    "excess_mtl": (lambda: hw.balancers.excess_mtl(0.5), Excess),
    "excess_mtl after 3": (
        lambda: hw.balancers.excess_mtl(0.5, warm_up=3),
        lambda: Excess(warm_up=3),
    ),
}
STATEFUL = {
    "moco": hw.balancers.moco,
    "db_mtl": hw.balancers.db_mtl,
    "excess_mtl": hw.balancers.excess_mtl,
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_papers_over_several_steps(name, dtype):
    """bfloat16 gradients are summed in float32: only the direction is rounded."""
    make, make_reference = PAIRS[name]
    balancer, reference = make(), make_reference()
    state, update = balancer.init(NAMES, PARAMS), jax.jit(balancer.update)
    for step in range(STEPS):
        rows, values, signals = problem(step, dtype=dtype)
        decision, state = update(signals, state)
        weights, direction = reference(rows, values)
        np.testing.assert_allclose(decision.weights, weights, rtol=1e-4, atol=1e-6)
        assert decision.direction["w"].dtype == dtype
        tolerance = 1e-4 if dtype == jnp.float32 else 2**-7
        size = np.abs(direction).max()
        np.testing.assert_allclose(
            flat(decision.direction), direction, rtol=0, atol=tolerance * size
        )


@pytest.mark.parametrize("scale", [1e-15, 1e-10, 1e10, 1e15])
@pytest.mark.parametrize("name", ["db_mtl", "excess_mtl"])
def test_the_unit_of_the_gradients_changes_nothing(name, scale):
    balancer = STATEFUL[name]()
    update = jax.jit(balancer.update)
    one = many = balancer.init(NAMES, PARAMS)
    for step in range(3):
        small, one = update(problem(step)[2], one)
        large, many = update(problem(step, scale)[2], many)
        np.testing.assert_allclose(large.weights, small.weights, rtol=1e-4)
        np.testing.assert_allclose(
            flat(large.direction) / scale, flat(small.direction), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", STATEFUL)
def test_absent_head_keeps_what_it_had(name):
    balancer = STATEFUL[name]()
    update = jax.jit(balancer.update)
    state = balancer.init(NAMES, PARAMS)
    for step in range(2):
        _, state = update(problem(step)[2], state)
    signals = problem(2)[2]._replace(present=jnp.array([True, False, True]))
    decision, new = update(signals, state)
    assert decision.weights[1] == 0
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        if np.ndim(before):
            np.testing.assert_allclose(after[1], before[1], rtol=1e-6)
            assert not np.allclose(after[0], before[0]) or name == "excess_mtl"
    # Broken numbers are as good as none.
    nan = dict(signals.grads, b=jax.tree.map(lambda g: g * jnp.nan, signals.grads["b"]))
    broken = signals._replace(grads=nan, present=None)
    other, same = update(broken, state)
    np.testing.assert_allclose(flat(other.direction), flat(decision.direction))
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(a, b)


def test_excess_without_a_start_counts_as_unchanged():
    balancer = hw.balancers.excess_mtl(1.0)
    update, state = jax.jit(balancer.update), balancer.init(["a", "b"], jnp.zeros(1))
    seen = []
    for a in (0.0, 5.0, 5.0):
        grads = {"a": jnp.array([a]), "b": jnp.array([1.0])}
        decision, state = update(hw.Signals(jnp.ones(2), grads=grads), state)
        seen.append(np.asarray(decision.weights))
    np.testing.assert_allclose(seen[0], [1.0, 1.0], rtol=1e-6)
    # b: 1/√2 of its start in the second update, 1/√3 in the third; a starts in it.
    second = 2 * softmax(np.array([1.0, 1 / np.sqrt(2)]))
    np.testing.assert_allclose(seen[1], second, rtol=1e-5)
    third = 2 * softmax(np.array([1 + 1 / np.sqrt(2), 1 / np.sqrt(2) + 1 / np.sqrt(3)]))
    np.testing.assert_allclose(seen[2], third, rtol=1e-5)


class TestTrimmedMean:
    def update(self, rows, trim, present=None):
        balancer = hw.balancers.trimmed_mean(trim)
        names = [f"h{i}" for i in range(len(rows))]
        grads = {n: jnp.array(row) for n, row in zip(names, rows)}
        signals = hw.Signals(jnp.ones(len(rows)), grads=grads, present=present)
        return jax.jit(balancer.update)(signals, balancer.init(names))[0]

    def test_value_of_torchjd(self):
        rows = [[1e11, 3], [1, -1e11], [-1e10, 1e10], [2, 2]]
        decision = self.update(np.float32(rows), 1)
        np.testing.assert_allclose(decision.direction, [1.5, 2.5])

    @pytest.mark.parametrize("trim", [0, 1, 2, 3, 7, "median"])
    @pytest.mark.parametrize("heads", [1, 2, 5, 6])
    def test_sorted_and_cut(self, trim, heads):
        rows = np.float32(np.random.default_rng(heads).normal(size=(heads, 20)))
        most = (heads - 1) // 2
        cut = most if trim == "median" else min(trim, most)
        want = np.sort(np.float64(rows), axis=0)[cut : heads - cut].mean(axis=0)
        decision = self.update(rows, trim)
        np.testing.assert_allclose(decision.direction, want, rtol=1e-5, atol=1e-6)
        if trim == "median":
            np.testing.assert_allclose(
                decision.direction, np.median(rows, axis=0), rtol=1e-5, atol=1e-6
            )
        # The weights say how much of each survives: all of it at a mean.
        if cut == 0:
            np.testing.assert_allclose(decision.weights, 1 / heads, rtol=1e-5)

    def test_absent_heads_do_not_count(self):
        rows = np.float32([[1.0, 5.0], [np.nan, 1e9], [2.0, 4.0], [9.0, 3.0]])
        present = jnp.array([True, False, True, True])
        decision = self.update(rows, 1, present)
        np.testing.assert_array_equal(decision.direction, [2.0, 4.0])
        np.testing.assert_allclose(decision.weights[2], 1.0)
        np.testing.assert_array_equal(decision.weights[:2], 0.0)

    def test_bfloat16_is_summed_in_float32(self):
        rows = jnp.asarray([[256.0], [1.0], [1.0], [1.0]], jnp.bfloat16)
        decision = self.update(rows, 0)
        assert decision.direction.dtype == jnp.bfloat16
        # 64.75 rounded to bfloat16; 256 + 1 would be 256 there already, and this 64.
        assert float(decision.direction[0]) == 65.0


def values_fn(p, x):
    h = jnp.tanh(x @ p["trunk"])
    return {
        "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
        "b": jnp.mean(jnp.abs(h @ p["b"] + 2.0)),
        "c": jnp.mean(jnp.square(h @ p["c"])),
    }


def make_params():
    rng = np.random.default_rng(0)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 1), "c": (4, 3)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


X = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)


def test_trimmed_mean_keeps_private_parameters_whole():
    balancer = hw.balancers.trimmed_mean("median")
    params = make_params()
    f = jax.jit(hw.balanced_grad(values_fn, balancer, head_grads=True))
    grads, info, _ = f(params, balancer.init(NAMES), X)
    for name in NAMES:
        np.testing.assert_allclose(grads[name], info.grads[name][name], rtol=1e-5)
    trunk = np.stack([info.grads[name]["trunk"] for name in NAMES])
    np.testing.assert_allclose(grads["trunk"], np.median(trunk, axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", [*STATEFUL, "trimmed_mean"])
def test_training_under_jit_and_scan(name):
    balancer = getattr(hw.balancers, name)()
    optimizer = optax.sgd(0.01)
    step = hw.training.make_step(values_fn, optimizer, balancer)
    state = hw.training.init_state(NAMES, make_params(), optimizer, balancer)
    xs = jnp.broadcast_to(X, (30, *X.shape))
    scanned, info = jax.jit(lambda s: jax.lax.scan(step, s, xs))(state)
    total = sum(np.asarray(v) for v in info.values.values())
    assert total[-1] < total[0]
    loop, compiled = state, jax.jit(step)
    for x in xs[:3]:
        loop, one = compiled(loop, x)
    np.testing.assert_allclose(one.weights["b"], info.weights["b"][2], rtol=1e-4)
    assert jax.tree.structure(scanned) == jax.tree.structure(state)


@pytest.mark.parametrize("name", STATEFUL)
def test_missing_or_other_params_are_named(name):
    balancer = STATEFUL[name]()
    with pytest.raises(ValueError, match=f"{name}: expected params, got None"):
        balancer.init(NAMES)
    state = balancer.init(NAMES, {"w": jnp.zeros(4)})
    with pytest.raises(ValueError, match=f"{name}: expected signals.grads shaped like"):
        balancer.update(problem(0)[2], state)


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"beta: expected a number in \(0, 1\]"):
        hw.balancers.moco(beta=0.0)
    with pytest.raises(ValueError, match="gamma: expected a positive number"):
        hw.balancers.moco(gamma=0.0)
    with pytest.raises(ValueError, match="rho: expected a number >= 0"):
        hw.balancers.moco(rho=-1.0)
    with pytest.raises(ValueError, match=r"beta: expected a number in \[0, 1\)"):
        hw.balancers.db_mtl(beta=1.0)
    with pytest.raises(ValueError, match="epsilon: expected a number >= 0"):
        hw.balancers.db_mtl(epsilon=-1.0)
    with pytest.raises(ValueError, match="step: expected a positive number"):
        hw.balancers.excess_mtl(0.0)
    with pytest.raises(ValueError, match="warm_up: expected a positive int"):
        hw.balancers.excess_mtl(warm_up=0)
    for trim in (-1, 1.5, "mean", True):
        with pytest.raises(ValueError, match="trim: expected an int >= 0 or 'median'"):
            hw.balancers.trimmed_mean(trim)
