"""Two trunks side by side and a head alone, and one of the trunks by itself."""

import jax
import jax.numpy as jnp
import numpy as np

# Two groups that share nothing, and a head alone. Options go by the last letter.
NAMES = ("1a", "1c", "2a", "2c", "3b")
OF_ONE = ("a", "c")
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)


def one(p, x):
    """Two heads on a trunk."""
    h = jnp.tanh(x @ p["t"])
    return {
        "a": jnp.mean(jnp.square(h @ p["a"] - 1.0)),
        "c": jnp.mean(jnp.square(h @ p["c"] + 3.0)),
    }


def all_of_them(p, x):
    values = {g + n: v for g in "12" for n, v in one(p[g], x).items()}
    return values | {"3b": jnp.mean(jnp.square(x @ p["3"]["w"] - 2.0))}


def make_params():
    """A leading axis as long as there are heads: it is no axis of heads."""
    rng = np.random.default_rng(1)
    trunk = {"a": (2,), "c": (2,), "t": (5, 2)}
    shapes = {"1": trunk, "2": trunk, "3": {"w": (5,)}}
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s), jnp.float32),
        shapes,
        is_leaf=lambda s: isinstance(s, tuple),
    )


def close(got, want, rtol=2e-4):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=2e-5), got, want
    )
