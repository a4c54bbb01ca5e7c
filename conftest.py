"""Settings of every test process: strict, and the names that examples may use."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

import headwise as hw  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure() -> None:
    """absl flags are read outside `app.run` here (chex, grain)."""
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(autouse=True)
def example_names(doctest_namespace: dict) -> None:
    """The imports that every example in a docstring may take for granted."""
    doctest_namespace.update(hw=hw, jax=jax, jnp=jnp, np=np, optax=optax)
