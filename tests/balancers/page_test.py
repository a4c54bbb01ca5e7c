"""The page on balancers runs as written, and its table says what is so."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests import _pages
from tests.balancers import _battery
from tests.balancers import _cases
from tests.balancers import _gramian

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "balancers.md"
WITH_ARGUMENTS = {
    "fairgrad": {"alpha = 1": hw.balancers.fairgrad(1.0)},
}


def table():
    """[(name, needs, no conflict, free of scale, positive values)] of the methods."""
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].startswith("`"):
            for name in re.findall(r"`(\w+)`", cells[0]):
                rows.append((name, cells[1], *cells[3:6]))
    return rows


ROWS = table()
NEEDS = {
    "values": hw.balancers.FROM_VALUES,
    "gramian": hw.balancers.FROM_GRAMIAN,
    "gradients": hw.balancers.FROM_GRADIENTS,
}


def test_page_runs_as_written():
    namespace = _pages.run_page(PAGE)
    assert set(namespace["info"].weights) == {"y1", "y2"}


@pytest.mark.parametrize("needs", NEEDS)
def test_every_balancer_is_on_the_page(needs):
    rows = [name for name, cell, *_ in ROWS if re.match(r"\w+", cell)[0] == needs]
    assert len(set(rows)) == len(rows)
    wrong = set(rows) ^ set(NEEDS[needs])
    assert not wrong, (
        f"rows of docs/guides/balancers.md that need {needs}: {sorted(wrong)}"
    )


def test_every_wrapper_is_on_the_page():
    text = PAGE.read_text()
    for name in hw.balancers.WRAPPERS:
        assert f"`{name}(" in text


def test_links_lead_somewhere():
    for target in _pages.links(PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target


def problems(heads):
    """[K, H, P] gradients: generic, correlated, of different lengths."""
    rng = np.random.default_rng(heads)
    generic = rng.normal(size=(40, heads, heads + 2))
    alike = rng.normal(size=(40, 1, heads + 2)) + 0.3 * generic
    uneven = generic * 10 ** rng.uniform(-1, 1, size=(40, heads, 1))
    return np.concatenate([generic, alike, uneven]).astype(np.float32)


def decide(balancer, rows, values):
    """[K, P] directions."""
    heads = rows.shape[1]
    names = [f"h{i}" for i in range(heads)]
    state = balancer.init(names, jnp.zeros(rows.shape[2]))

    @jax.jit
    @jax.vmap
    def one(row, value):
        signals = hw.balancers.Signals(
            values=value,
            gram=jnp.matmul(row, row.T, precision="highest"),
            grads={name: row[i] for i, name in enumerate(names)},
            key=jax.random.key(0),
            step=0,
        )
        decision, _ = balancer.update(signals, state)
        if decision.direction is not None:
            return decision.direction
        return jnp.matmul(decision.weights, row, precision="highest")

    return np.asarray(one(rows, values), np.float64)


@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("name", [row[0] for row in ROWS if row[2] == "yes"])
def test_no_conflict(name, heads):
    rows = problems(heads)
    # In the program of other tests, which is that of the defaults.
    factory, *options = _gramian.METHODS[name]
    assert factory is getattr(hw.balancers, name)
    defaults = [p.default for p in inspect.signature(factory).parameters.values()]
    assert defaults[: len(options)] == options
    grams = np.matmul(rows, rows.swapaxes(1, 2), dtype=np.float64)
    direction = _gramian.directions(_gramian.weights(name, grams), rows)
    along = np.einsum("khp,kp->kh", rows, direction)
    lengths = np.linalg.norm(rows, axis=2)
    # In units of the longest gradient that enters: rounding of float32 times the
    # condition of the gramian. Measured: 2e-5.
    assert (along >= -1e-4 * lengths * lengths.max(axis=1, keepdims=True)).all()


@pytest.mark.parametrize(
    "name", [row[0] for row in ROWS if row[3] not in ("no", "when settled")]
)
def test_free_of_scale(name):
    claim = next(row[3] for row in ROWS if row[0] == name)
    balancer = getattr(hw.balancers, name)
    made = WITH_ARGUMENTS[name][claim[5:]] if claim[:4] == "with" else balancer()
    rows = problems(3)
    rng = np.random.default_rng(1)
    values = rng.uniform(0.5, 2, size=rows.shape[:2]).astype(np.float32)
    # Powers of two: scaling itself rounds nothing.
    factors = (2.0 ** rng.integers(-6, 7, size=rows.shape[:2])).astype(np.float32)
    before = decide(made, rows, values)
    after = decide(made, rows * factors[..., None], values * factors)
    before /= np.linalg.norm(before, axis=1, keepdims=True)
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    cosine = np.einsum("kp,kp->k", before, after)
    if claim == "up to its sign":  # the weights sum to 1, whatever that turns
        cosine = np.abs(cosine)
    # float32 solutions of problems with a condition of up to some 1e4.
    np.testing.assert_allclose(cosine, 1.0, atol=1e-4)


def weights_of_some_steps(name):
    """A function of the first head's values [T] and of who is there: weights [T, H]."""
    balancer = _cases.make_plain(name)
    start = _battery.start(name, balancer, _cases.NAMES)
    shown = _battery.make_signals(_battery.make_grads())

    @jax.jit
    def update(signals, state):  # the battery's program, where the options are its
        return balancer.update(signals, state)

    def weights(firsts, here=True):
        state, seen = start, []
        for first in firsts:
            values = np.array(shown.values)
            values[0] = first
            signals = shown._replace(
                values=jnp.asarray(values), present=jnp.array([here, True, True])
            )
            decision, state = update(signals, state)
            seen.append(np.asarray(decision.weights))
        return np.stack(seen)

    return weights


@pytest.mark.parametrize(("name", "claim"), [(row[0], row[4]) for row in ROWS])
def test_positive_values(name, claim):
    """Whether a head whose value goes through 0 is another one then."""
    weights = weights_of_some_steps(name)
    if claim != "yes":
        # There is nothing at 0 for it.
        up, down = weights([1e-6] * 4), weights([-1e-6] * 4)
        np.testing.assert_allclose(up, down, rtol=1e-3, atol=1e-3)
        return
    got = weights([-0.5, -0.5, 0.0, -1.0])
    # How far below 0 does not matter to any head.
    other = weights([-3.0, 0.0, -1e30, -1e-30])
    np.testing.assert_allclose(got, other, rtol=1e-6)
    if name == "imtl":  # of any sign
        return
    assert ((got[:, 0] > 0.1) & (got[:, 0] < 10)).all()
    if name != "gradnorm":  # to which its gradient matters
        others = [w[:, 1:] for w in (got, weights([0.0] * 4, here=False))]
        np.testing.assert_allclose(
            *(w / w.sum(1, keepdims=True) for w in others), rtol=1e-5, atol=1e-6
        )
