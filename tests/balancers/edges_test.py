"""Every balancer is finite at the edges: zero, duplicate, opposite, tiny, huge rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.balancers import _battery
from tests.balancers import _cases

EDGES = {
    "zero": [[0.0, 0], [0, 0], [0, 0]],
    "one zero": [[0.0, 0], [1, 2], [2, -1]],
    "duplicate": [[1.0, 2], [1, 2], [1, 2]],
    "antiparallel": [[1.0, 2], [-1, -2], [-2, -4]],
    "tiny": [[1e-10, 2e-10], [-2e-10, 1e-10], [1e-10, -3e-10]],
    "huge": [[1e10, 2e10], [-2e10, 1e10], [1e10, -3e10]],
    "both": [[1e-10, 2e-10], [-2e10, 1e10], [1.0, -3.0]],
}


@_battery.every_balancer
@pytest.mark.parametrize("edge", EDGES)
def test_finite_at_the_edges(name, edge):
    balancer, update, _ = _battery.prepare(name)
    grads = {n: {"w": jnp.array(row)} for n, row in zip(_cases.NAMES, EDGES[edge])}
    state = _battery.start(name, balancer, _cases.NAMES, grads["a"])
    for values in (1.0, 0.0, 1e-10):
        signals = _battery.make_signals(grads)._replace(
            values=np.full(3, values, np.float32)
        )
        decision, new = update(signals, state)
        for leaf in jax.tree.leaves((decision, new)):
            assert np.isfinite(leaf).all()
        assert _cases.CASES[name].signed or (decision.weights >= 0).all()
