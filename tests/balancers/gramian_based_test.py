"""Balancers that need the gramian, against solutions in float64.

Each reference is another method than ours: quadprog, an explicit loop over vectors, an
eigendecomposition of the rows, or conditions that only the solution meets.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quadprog

import headwise as hw
from tests.balancers import _gramian
from tests.balancers._gramian import EPS
from tests.balancers._gramian import KINDS
from tests.balancers._gramian import NAMES
from tests.balancers._gramian import SIZES
from tests.solvers._samples import sample_rows


def problems(kind, heads):
    """Rows, gramian and cosines of 20 problems."""
    rows = sample_rows(kind, heads)
    unit = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    return rows, rows @ rows.swapaxes(1, 2), unit


def every_problem(*kinds):
    def mark(test):
        test = pytest.mark.parametrize("kind", kinds or KINDS)(test)
        return pytest.mark.parametrize("heads", SIZES)(test)

    return mark


def qp(gram, linear, constraints, right, equations=0):
    """argmin 1/2 xᵀGx - linearᵀx, constraintsᵀ x >= right, by Goldfarb and Idnani."""
    scale = np.trace(gram) / len(gram)
    ridge = 1e-13 * np.eye(len(gram))  # it wants a definite matrix
    return quadprog.solve_qp(
        gram / scale + ridge, linear / scale, constraints, right, meq=equations
    )[0]


def lift(gram, u):
    """argmin vᵀGv, v >= u, in units in which the gradients have length 1."""
    lengths = np.sqrt(np.diagonal(gram))
    unit = gram / np.outer(lengths, lengths)
    zero, identity = np.zeros(len(u)), np.eye(len(u))
    return qp(unit, zero, identity, u * lengths) / lengths


@every_problem()
@pytest.mark.parametrize("method", ["upgrad", "dualproj"])
def test_projections_on_the_dual_cone(method, heads, kind):
    rows, grams, _ = problems(kind, heads)
    u = np.eye(heads) / heads if method == "upgrad" else np.full((1, heads), 1 / heads)
    expected = np.stack([sum(lift(gram, part) for part in u) for gram in grams])
    w = _gramian.solved(method, heads)[kind]
    # d -> |d|² is known to some EPS (Σ w |g|)², as in min_norm; where the cone is wide
    # that is an error of EPS in d, where it is thin of √EPS.
    size = np.maximum(_gramian.measure(w, rows)[1], _gramian.measure(expected, rows)[1])
    error = _gramian.directions(w - expected, rows)
    thin = kind not in ("gauss", "scaled")
    tolerance = np.sqrt(50 * EPS) if thin else 1e-4
    assert (np.linalg.norm(error, axis=1) <= tolerance * size[:, 0]).all()
    assert (w >= 1 / heads - 2 * EPS).all()
    if method == "dualproj":  # the conditions of the one program: slope >= 0, or v = u
        slope = np.einsum("kij,kj->ki", grams, w)
        unit = np.linalg.norm(rows, axis=2) * size
        assert (slope >= -120 * EPS * unit).all()
        lengths = np.linalg.norm(rows, axis=2)
        lifted = (w - 1 / heads) * lengths > 1e-4 * size
        assert (np.abs(slope) <= 120 * EPS * unit)[lifted].all()


@every_problem()
@pytest.mark.parametrize(
    ("method", "c"), [("cagrad 0.4", 0.4), ("cagrad", 0.5), ("cagrad 1.5", 1.5)]
)
def test_cagrad_has_no_duality_gap(method, c, heads, kind):
    """min_h <g_h, d> of a d in the ball, and an upper bound of it, are the same."""
    rows, grams, _ = problems(kind, heads)
    u = np.full(heads, 1 / heads)
    v = _gramian.solved(method, heads)[kind] - u
    mean = np.sqrt(np.einsum("i,kij,j->k", u, grams, u))
    assert (v >= -4 * EPS).all()
    v = np.maximum(v, 0.0)
    length = np.sqrt(np.einsum("ki,kij,kj->k", v, grams, v))
    largest = np.linalg.norm(rows, axis=2).max(axis=1)
    # The ridge and a level that cancels; measured: 1e-6 of the largest gradient.
    assert (length <= c * mean + 2e-5 * largest).all()
    total = np.sum(v, axis=1, keepdims=True)
    w = np.where(total > 1e-6, v / np.where(total > 0, total, 1.0), u)
    along = np.sqrt(np.einsum("ki,kij,kj->k", w, grams, w))
    bound = np.einsum("ki,kij,j->k", w, grams, u) + c * mean * along
    reached = np.einsum("kij,kj->ki", grams, u + v).min(axis=1)
    # Products with d are known to EPS of what is summed in it. From c = 1 on that can
    # be 500 gradients that cancel, at a stationary point; else it is as long as g0.
    # A ball that is left by 2e-5 gives as much more.
    size = _gramian.measure(u + v, rows)[1][:, 0]
    assert (np.abs(bound - reached) <= 16 * EPS * size * largest).all()


def newton(grams, alpha):
    """The fair weights in float64, by Newton's method in log(w), halving the steps."""
    lengths = np.sqrt(np.diagonal(grams, axis1=1, axis2=2))
    z = -2 * alpha / (alpha + 1) * np.log(lengths)
    power = 1 - 1 / alpha

    def along(w):
        return np.einsum("kij,kj->ki", grams, w)

    def potential(z):  # convex in w: 1/2 wᵀGw - Σ φ(w)
        w = np.exp(z)
        gain = z.sum(1) if power == 0 else np.sum(w**power, 1) / power
        return np.sum(w * along(w), 1) / 2 - gain

    for _ in range(200):
        w = np.exp(z)
        slope = w * along(w) - w**power
        hessian = w[:, :, None] * w[:, None] * grams
        hessian += np.eye(z.shape[1]) * (w**power / alpha)[:, None]
        step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        step /= np.maximum(1.0, np.abs(step).max(1, keepdims=True))
        while True:
            worse = potential(z - step) > potential(z) + 1e-14
            worse &= np.abs(step).max(1) > 1e-12
            if not worse.any():
                break
            step[worse] /= 2
        z = z - step
    return np.exp(z)


@every_problem()
@pytest.mark.parametrize(
    ("method", "alpha"), [("fairgrad 0.5", 0.5), ("fairgrad", 1), ("fairgrad 2", 2)]
)
def test_fair_weights(method, alpha, heads, kind):
    rows, grams, _ = problems(kind, heads)
    w = _gramian.solved(method, heads)[kind]
    lengths, size = _gramian.measure(w, rows)
    utility = w ** (-1 / alpha)
    residual = np.einsum("kij,kj->ki", grams, w) - utility
    assert (w > 0).all()
    if kind in ("conflicting", "stationary"):  # there is none, or hardly
        return
    # The ridge is 25 EPS of |g_h| w_h |g_h|, the gramian is rounded to EPS.
    assert (np.abs(residual) <= 30 * EPS * lengths * size).all()
    if kind != "scaled":  # well conditioned enough for the weights themselves
        np.testing.assert_allclose(w, newton(grams, alpha), rtol=2e-4)


@every_problem()
def test_nash_is_fair_at_another_length(heads, kind):
    rows, grams, _ = problems(kind, heads)
    plain = _gramian.solved("fairgrad", heads)[kind]
    free = _gramian.solved("nash_mtl free", heads)[kind]
    clipped = _gramian.solved("nash_mtl", heads)[kind]
    frobenius = np.sqrt(np.linalg.norm(grams, axis=(1, 2)))[:, None]
    # Two programs: 60 Newton steps where there is no solution may end elsewhere.
    if kind not in ("conflicting", "stationary"):
        np.testing.assert_allclose(free, plain * frobenius, rtol=1e-5)
    norm = np.linalg.norm(_gramian.directions(clipped, rows), axis=1)
    # The square of a sum that cancels is known to EPS of what is summed, squared.
    size = _gramian.measure(clipped, rows)[1][:, 0]
    assert (norm <= 1 + 16 * EPS * size**2).all()
    if kind not in ("conflicting", "stationary"):
        expected = np.minimum(1, np.sqrt(heads) * frobenius[:, 0])
        np.testing.assert_allclose(norm, expected, rtol=1e-4)
    ratio = free / clipped
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(heads), rtol=1e-5)


@functools.cache
def aligned(heads):
    """[K, H, H] gramians -> [K, 3, H, H], for min, median and rmse the weights for the
    preferences of each head alone."""
    names = dict.fromkeys(NAMES[:heads], 1.0)
    scales = ("min", "median", "rmse")
    made = [hw.balancers.aligned_mtl(scale, names) for scale in scales]

    def one(gram, preferences):
        weights = [_gramian.update(b, gram, preferences=preferences) for b in made]
        return jnp.stack(weights)

    every = jax.jit(jax.vmap(jax.vmap(one, (None, 0), 1), (0, None)))
    grams = np.concatenate([problems(kind, heads)[1] for kind in KINDS])
    got = every(np.float32(grams), np.eye(heads, dtype=np.float32))
    return dict(zip(KINDS, np.split(np.float64(got), len(KINDS))))


@every_problem("gauss", "scaled", "conflicting", "stationary")
def test_aligned_gradients_are_orthogonal_and_equally_long(heads, kind):
    """With the weights for each head alone as rows of B, B J has orthogonal rows."""
    checked = 0
    for gram, of_scales in zip(problems(kind, heads)[1], aligned(heads)[kind]):
        values, vectors = np.linalg.eigh(gram)
        kept = values > 1e-6 * values[-1]
        known = values[kept]
        if known[-1] > 1e4 * known[0]:  # float32 knows the least one to no digit
            continue
        checked += 1
        noise = 20 * EPS * known[-1] / known[0]  # relative error of the least one
        project = vectors[:, kept] @ vectors[:, kept].T
        for b, size in zip(of_scales, (known[0], np.median(known), known.mean())):
            aligned_gram = b @ gram @ b.T
            np.testing.assert_allclose(
                aligned_gram, size * project, rtol=0, atol=noise * size
            )
            np.testing.assert_allclose(b, b.T, rtol=0, atol=noise * np.abs(b).max())
    assert checked >= 1


@every_problem("gauss", "scaled", "correlated")
def test_impartial_projections(heads, kind):
    """imtl_g and config by the pseudo-inverse of the unit rows themselves."""
    rows, _, unit = problems(kind, heads)
    lengths = np.linalg.norm(rows, axis=2)
    wanted = np.stack([np.linalg.pinv(u).sum(axis=1) for u in unit])  # U d = 1
    condition = np.stack([np.linalg.cond(u @ u.T) for u in unit])[:, None]
    size = np.linalg.norm(wanted, axis=1, keepdims=True)
    unit_wanted = wanted / size

    w = _gramian.solved("config", heads)[kind]
    d = _gramian.directions(w, rows)
    along = np.sum(lengths, axis=1) / size[:, 0]
    noise = 10 * EPS * condition
    error = np.abs(d - along[:, None] * unit_wanted)
    assert (error <= noise * along[:, None]).all()
    cosines = np.einsum("khp,kp->kh", unit, d)
    spread = cosines.max(axis=1) - cosines.min(axis=1)
    assert (spread <= (noise * along[:, None])[:, 0]).all()

    w = _gramian.solved("imtl_g", heads)[kind]
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=4 * EPS * np.abs(w).sum())
    a = np.stack([np.linalg.solve(u @ u.T, np.ones(heads)) for u in unit]) / lengths
    total = np.sum(a, axis=1, keepdims=True)
    noise = noise * np.abs(a).sum(axis=1, keepdims=True) / np.abs(total)
    error = np.abs(w - a / total) * lengths
    assert (error <= noise * np.sum(np.abs(w) * lengths, axis=1, keepdims=True)).all()


def surgery(rows, order, usual, beta):
    """PCGrad (usual 0, beta 0) and GradVac on vectors, one head after the other."""
    parts, usual = rows.copy(), usual.copy()
    for i in range(len(rows)):
        for j in order[i]:
            if i == j:
                continue
            g = rows[j] / np.linalg.norm(rows[j])
            length = np.linalg.norm(parts[i])
            cosine = parts[i] @ g / length
            goal = usual[i, j]
            if cosine < goal:
                sines = np.sqrt(1 - goal**2), np.sqrt(1 - cosine**2)
                factor = goal * sines[1] / sines[0] - cosine
                parts[i] = parts[i] + length * factor * g
            usual[i, j] = (1 - beta) * goal + beta * cosine
    return parts.sum(axis=0), usual


@functools.cache
def orders(heads):
    def one(key):
        return jnp.argsort(jax.random.uniform(key, (heads, heads)), axis=1)

    return np.asarray(jax.jit(jax.vmap(one))(_gramian.keys()))


@every_problem("gauss", "scaled", "correlated")
@pytest.mark.parametrize("method", ["pcgrad", "gradvac"])
def test_surgery_on_vectors(method, heads, kind):
    rows = sample_rows(kind, heads)
    none = np.zeros((heads, heads))
    by_order = orders(heads)[20 * KINDS.index(kind) :]
    expected = [surgery(r, o, none, 0.0)[0] for r, o in zip(rows, by_order)]
    w = _gramian.solved(method, heads)[kind]
    error = _gramian.directions(w, rows) - np.stack(expected)
    # A sum of H (H - 1) edits; each rounds to EPS of what is edited.
    size = _gramian.measure(w, rows)[1]
    assert (np.abs(error) <= 16 * EPS * size).all()


@pytest.mark.parametrize(("method", "selected"), [("krum", 2), ("krum 4", 4)])
@every_problem("gauss", "scaled", "correlated")
def test_krum_by_its_definition(method, selected, heads, kind):
    rows = sample_rows(kind, heads)
    w = _gramian.solved(method, heads)[kind]
    distances = np.sum((rows[:, :, None] - rows[:, None]) ** 2, axis=3)
    near = min(max(heads - 3, 1), heads - 1)
    score = np.sort(distances, axis=2)[:, :, 1 : near + 1].sum(axis=2)
    # Ties, as between two heads, go to the first; float64 distances round apart.
    chosen = np.argsort(np.float32(score), axis=1, kind="stable")[:, :selected]
    taken = min(selected, heads)
    expected = np.zeros_like(w)
    np.put_along_axis(expected, chosen, 1.0 / taken, axis=1)
    np.testing.assert_array_equal(np.float32(w), np.float32(expected))


@every_problem("gauss", "scaled", "correlated")
def test_pcd_by_its_quadratic_program(heads, kind):
    """On vectors d, not on weights of gradients; first step: all have length 1."""
    rows, _, unit = problems(kind, heads)
    w = _gramian.solved("pcd", heads)[kind]
    for u, weights, r in zip(unit, w, rows):
        identity = np.eye(u.shape[1])
        d = qp(identity, u[0], u[1:].T, np.full(heads - 1, 0.02))
        expected = d / np.linalg.norm(d)
        got = weights @ r / np.linalg.norm(r[0])
        condition = np.linalg.cond(u @ u.T)
        np.testing.assert_allclose(got, expected, rtol=0, atol=20 * EPS * condition)
        assert abs(np.linalg.norm(got) - 1) <= 8 * EPS * condition


def nearest_on_simplex(point):
    """By quadprog."""
    heads = len(point)
    constraints = np.vstack([np.ones(heads), np.eye(heads)]).T
    right = np.concatenate([[1.0], np.zeros(heads)])
    return quadprog.solve_qp(np.eye(heads), point, constraints, right, meq=1)[0]


def modo_step(gram, w, learning_rate=0.1, regularization=0.1):
    w = nearest_on_simplex(w - learning_rate * (gram @ w + regularization * w))
    return w, w


def sdmgrad_step(gram, w, learning_rate=10.0, regularization=0.3):
    gram = gram / np.mean(np.sqrt(np.maximum(np.diagonal(gram), 0.0))) ** 2
    u, v = np.full(len(w), 1 / len(w)), np.zeros_like(w)
    for _ in range(20):
        v = 0.5 * v + gram @ (w + regularization * u)
        w = nearest_on_simplex(w - learning_rate * v)
    return w, (w + regularization * u) / (1 + regularization)


@pytest.mark.parametrize("heads", [2, 3, 8])
@pytest.mark.parametrize(("name", "step"), [("modo", modo_step), ("sdmgrad", None)])
def test_stochastic_steps_with_another_projection(name, step, heads):
    """Four steps each, with gramians of two batches, which are not symmetric."""
    step = step or sdmgrad_step
    rng = np.random.default_rng(heads)
    balancer = _gramian.METHODS[name][0]()
    update = jax.jit(balancer.update)
    state, w = balancer.init(NAMES[:heads]), np.full(heads, 1 / heads)
    for _ in range(4):
        first = rng.normal(size=(heads, heads + 5))
        second = first + 0.3 * rng.normal(size=first.shape)
        gram = np.float32(first @ second.T / heads)
        signals = hw.balancers.Signals(jnp.ones(heads), jnp.asarray(gram))
        decision, state = update(signals, state)
        w, shown = step(np.float64(gram), w)
        # sdmgrad amplifies rounding by its rate of 10 in 20 steps.
        atol = 1e-6 if name == "modo" else 1e-4
        np.testing.assert_allclose(decision.weights, shown, atol=atol)
        np.testing.assert_allclose(state.weights, w, atol=atol)
        w = np.float64(state.weights)  # the same start, so that errors do not add up


@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_gradnorm_by_a_loop(alpha):
    rng = np.random.default_rng(0)
    balancer = hw.balancers.gradnorm(alpha, optax.sgd(0.05))
    update, state = jax.jit(balancer.update), balancer.init(NAMES[:3])
    w, first = np.ones(3), None
    for step in range(12):
        values = np.float32(rng.uniform(0.5, 2, size=3) * 0.9**step)
        rows = rng.normal(size=(3, 9)) * [[1.0], [3.0], [0.3]]
        gram = np.float32(rows @ rows.T)
        signals = hw.balancers.Signals(jnp.asarray(values), jnp.asarray(gram))
        decision, state = update(signals, state)
        np.testing.assert_allclose(decision.weights, w, atol=1e-5)
        first = values if first is None else first
        norms = np.sqrt(np.diagonal(np.float64(gram)))
        rate = np.float64(values) / first
        lengths = w * norms
        target = lengths.mean() * (rate / rate.mean()) ** alpha
        w = w - 0.05 * np.sign(lengths - target) * norms / norms.mean()
        w = 3 * w / w.sum()
    np.testing.assert_allclose(state.weights, w, atol=1e-5)
    assert w.min() > 0.01  # the floor has no part in it
