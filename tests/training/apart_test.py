"""Every balancer of gradients: two groups of heads together are the same as apart.

The reference is the same balancer with the heads of one group in a model of their own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise import _xla
from tests.balancers import _case
from tests.balancers import _cases
from tests.training import _apart

NAMES, OF_ONE, X = _apart.NAMES, _apart.OF_ONE, _apart.X
one, all_of_them = _apart.one, _apart.all_of_them
make_params, close = _apart.make_params, _apart.close
B = hw.balancers
RATE, STEPS = 0.05, 5


def descend(values_fn, balancer, names, **options):
    """params -> some steps; the last state, and weights and gradients of every step.

    One step is compiled, and called for each: half of a program with a loop of them.
    """
    f = hw.balanced_grad(values_fn, balancer, **options)

    @jax.jit
    def step(params, state, t):
        key = jax.random.fold_in(jax.random.key(0), t)
        grads, info, state = f(params, state, X, key=key, step=t)
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
        weights = [info.weights[n] for n in names], [info.present[n] for n in names]
        return params, state, (weights, grads)

    def run(params):
        state, seen = balancer.init(names, params), []
        for t in range(STEPS):
            params, state, now = step(params, state, np.int32(t))
            seen.append(jax.tree.map(np.asarray, now))
        (weights, here), grads = jax.tree.map(lambda *x: np.stack(x), *seen)
        state = jax.tree.map(np.asarray, state)
        return state, np.stack(weights, 1), grads, np.stack(here, 1)

    return run


def part(state, group):
    """What a state of all heads holds of the heads of one group, by its types."""
    mine = slice(2 * group, 2 * group + 2)
    if isinstance(state, dict) and "1a" in state:  # by name, each like the parameters
        at = str(group + 1)
        return {n: state[at + n][at] for n in OF_ONE}
    if isinstance(state, dict):  # like the parameters, with an axis of heads
        return jax.tree.map(lambda x: x[mine], state[str(group + 1)])
    if hasattr(state, "similarity"):  # by pairs, and the leaf
        whole = state.similarity.shape[-1] == 1
        leaves = slice(None) if whole else slice(3 * group, 3 * group + 3)
        return state._replace(similarity=state.similarity[mine, mine, leaves])
    if isinstance(state, tuple):
        parts = [part(s, group) for s in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state[mine] if jnp.ndim(state) else state


def as_among_five(state):
    """Of a state of two heads: what starts at 1 / H, and keeps what it has of it."""
    if hasattr(state, "inner"):
        return state._replace(inner=as_among_five(state.inner))
    kind = type(state).__name__
    if kind in ("MocoState", "SimplexState"):
        return state._replace(weights=state.weights * 2 / 5)
    if kind == "ExcessMtlState":
        return state._replace(logits=state.logits + np.log(2 / 5))
    if kind in ("GramState", "MomentumState"):
        return state._replace(preferences=state.preferences * 2 / 5)
    return state


def unnamed(state):
    """Without the names of its heads, which differ, and of those inside of it."""
    if not hasattr(state, "_fields"):
        return state
    fields = {field: unnamed(getattr(state, field)) for field in state._fields}
    return state._replace(**fields | {"names": None} if "names" in fields else fields)


def at(tree, *index):
    return jax.tree.map(lambda x: x[index], tree)


def around(names):
    """Wrappers that change weights."""
    preferences = {n: _case.PREFERENCES[n[-1]] for n in names}
    inner = B.warm_up(B.with_preferences(B.mgda(), preferences), 1)
    return B.fallback(B.clipped(inner, 0.1, 1.5))


MORE = {
    # Adam divides by slopes that pass through 0, where rounding decides.
    "imtl": lambda names: B.imtl(optax.sgd(0.1)),
    "config, averaged": lambda names: B.config(momentum=0.5),
    "gradvac, by leaf": lambda names: B.gradvac(0.5, "leaf"),
    "wrappers": around,
    "wrappers in turns": lambda names: B.every(
        2, B.rescaled(B.smoothed(B.mgda(), 0.5), 3.0)
    ),
}
LOOKING = sorted({*B.FROM_GRAMIAN, *B.FROM_GRADIENTS, *MORE})
# The weight of a head alone in every step, where it is not 1: a preference that is a
# weight, what bounds and a sum make of it.
ALONE = {
    "upgrad": np.full(STEPS, 1.5),
    "wrappers": np.array([1.0] + [1.5] * (STEPS - 1)),
    "wrappers in turns": np.full(STEPS, 3.0),
}


def make(name, names):
    return MORE[name](names) if name in MORE else _cases.make(name, names)


# With many heads one program answers about the groups in turn. As large ones do here,
# so that both ways are taken.
IN_TURN = ("cagrad", "dualproj", "epo", "fairgrad", "nash_mtl", "pmgda", "upgrad")


@pytest.mark.parametrize("name", LOOKING)
def test_together_is_apart(name, monkeypatch):
    if name in (*IN_TURN, "wrappers in turns"):
        monkeypatch.setattr(_xla, "ALIKE_HEADS", len(NAMES))
    # The weights of `imtl_g` carry rounding on: 2e-4 in five steps of float32.
    with jax.enable_x64(name == "imtl_g"):
        check_together_is_apart(name)


def check_together_is_apart(name):
    params = make_params()
    if jax.config.jax_enable_x64:
        params = jax.tree.map(np.float64, params)
    together, by_itself = make(name, NAMES), make(name, OF_ONE)

    state, weights, grads, here = descend(all_of_them, together, NAMES)(params)
    by_themselves = descend(one, by_itself, OF_ONE)
    groups = [by_themselves(params[g]) for g in "12"]
    alone_state, alone_weights, alone_grads, _ = jax.tree.map(
        lambda *x: np.stack(x), *groups
    )
    assert here.all()
    for g in range(2):
        mine = weights[:, 2 * g : 2 * g + 2]
        if name == "pcd" and g == 1:  # the primary head is in the first group
            np.testing.assert_array_equal(mine, 1.0)
            continue
        if name == "graddrop" and g == 1:  # it draws by the place of a parameter
            continue
        if name == "gradvac, by leaf":  # it shows the mean over leaves, 1 if not moved
            mine = 1.0 + (mine - 1.0) * 7 / 3
        close(mine, alone_weights[g])
        close(grads[str(g + 1)], at(alone_grads, g))
        wanted = at(alone_state, g)
        if name != "upgrad":  # its preferences are given
            wanted = as_among_five(wanted)
        if name in ("epo", "pmgda"):  # one number for all: the largest
            last = wanted._fields[-1]
            wanted = wanted._replace(**{last: np.max(getattr(alone_state, last))})
        close(unnamed(part(state, g)), unnamed(wanted))
    # The head alone descends on its own, by hand.
    alone = ALONE.get(name, np.ones(STEPS))
    np.testing.assert_array_equal(weights[:, 4], np.float32(alone))
    x = np.float64(X[together.batches - 1 :: together.batches])  # the last part
    w = np.float64(params["3"]["w"])
    for t in range(STEPS):
        gradient = alone[t] * 2 / len(x) * x.T @ (x @ w - 2.0)
        np.testing.assert_allclose(grads["3"]["w"][t], gradient, rtol=1e-4, atol=1e-5)
        w = w - RATE * gradient


def test_graddrop_draws_by_parameter():
    """The second group, with all parameters there: the same draws."""
    balancer, params = make("graddrop", NAMES), make_params()
    by_itself = B.graddrop({"2a": 0.0, "2c": 0.5})

    def second(p, x):
        return {"2" + n: v for n, v in one(p["2"], x).items()}

    got = descend(all_of_them, balancer, NAMES)(params)
    want = descend(second, by_itself, ("2a", "2c"))(params)
    close(got[1][:, 2:4], want[1])
    close(got[2]["2"], want[2]["2"])
