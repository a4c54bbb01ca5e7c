"""Settings of every test process: strict, and the names that examples may use."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import flags

import headwise as hw

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure() -> None:
    """Absl flags are read outside `app.run` here (chex, grain)."""
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(autouse=True)
def example_names(doctest_namespace: dict) -> None:
    """The imports that every example in a docstring may take for granted."""
    doctest_namespace.update(hw=hw, jax=jax, jnp=jnp, np=np, optax=optax)
