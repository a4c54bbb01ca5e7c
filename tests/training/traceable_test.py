"""Functions of the step: traced where they may be, and called where they may not."""

import itertools
import logging
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise.training import _batch_programs
from headwise.training import _traceable
from tests.training._chunk_cases import assert_close
from tests.training._chunk_cases import batch_at
from tests.training._chunk_cases import fit
from tests.training._chunk_cases import on_host
from tests.training._chunk_cases import STEPS
from tests.training._chunk_cases import XS


def counting():
    """Numbers of its own calls: not a function of the step."""
    calls = itertools.count()
    return lambda t: scaled(t, next(calls))


def scaled(t, by):
    batch = on_host(t % STEPS)
    return {"x": batch["x"] * np.float32(1 + by / 10), "labels": batch["labels"]}


class Counter:
    """The same, hidden."""

    def __init__(self):
        self.calls = -1

    def __call__(self, t):
        self.calls += 1
        return {"x": XS[t] * (1 + self.calls / 10), "labels": jnp.float32(t % 3)}

    def constant(self, t):
        self.calls += 1
        return {"x": jnp.asarray(XS[0] * (1 + self.calls / 10)), "labels": 1.0}

    def mixed(self, t):
        self.calls += 1
        labels = jnp.float32(t % 3)
        return {"x": XS[0] * (1 + self.calls / 10), "labels": labels}


def legacy():
    """NumPy's global generator, and Python's."""
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)

    def noise():
        return np.float32(np.random.normal() + random.random())  # noqa: NPY002

    return lambda t: {"x": XS[t] * noise(), "labels": jnp.float32(t % 3)}


def failing_late():
    """Has drawn when the trace fails."""
    batches, rows = legacy(), on_host(0)["x"][None]
    return lambda t: {**batches(t), "x": batches(t)["x"] + rows[t * 0]}


def drawing():
    generator = np.random.default_rng(5)
    return lambda t: {"x": XS[t] * generator.normal(), "labels": jnp.float32(t % 3)}


def same():
    batch = batch_at(1)
    return lambda t: batch


def ahead():
    """A batch of a file, say, and a number of the step."""
    batch = batch_at(1)
    return lambda t: {"x": batch["x"], "labels": jnp.float32(t % 3)}


def large():
    """Python's whole numbers do not overflow."""
    return lambda t: {
        "x": XS[(t * 982451653 + 7) % STEPS],
        "labels": jnp.float32(t % 3),
    }


def asking():
    def batches(t):
        scale = 2.0 if isinstance(t, int) else 3.0
        return {"x": XS[t] * scale, "labels": jnp.float32(t % 3)}

    return batches


def growing():
    """Of another size in some steps."""
    return lambda t: {"x": np.ones((4 + t // 9, 3), np.float32), "labels": 1.0}


def numbers():
    return lambda t: {"x": XS[t], "labels": t % 3}


def reused():
    """One buffer, written anew for every step."""
    buffer = np.zeros((4, 3), np.float32)

    def batches(t):
        buffer[:] = np.asarray(XS[int(t)])
        return {"x": buffer, "labels": 1.0}

    return batches


FUNCTIONS = {
    "an iterator": (counting, "takes from an iterator"),
    "a counter": (Counter, "something else in each call"),
    "a counter alone": (lambda: Counter().constant, "something else"),
    "a counter beside the step": (lambda: Counter().mixed, "something else"),
    "global generators": (legacy, "something else in each call"),
    "global generators, then a failure": (failing_late, "cannot be traced"),
    "a generator": (drawing, "takes from an iterator"),
    "the same": (same, "does not depend"),
    "a part that is the same": (ahead, "does not depend"),
    "large numbers": (large, "other numbers"),
    "asks for its type": (asking, "other numbers"),
    "sizes": (growing, "cannot be traced"),
    "numbers": (numbers, None),
    "a buffer": (reused, "cannot be traced"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_what_it_gave_when_it_was_called(name, caplog):
    make, why = FUNCTIONS[name]
    right, history = fit(make(), chunk=1)
    caplog.set_level(logging.INFO, "headwise")
    state, records = fit(make())
    assert_close(state, right)
    assert [r["step"] for r in records] == [r["step"] for r in history]
    told = [m for m in caplog.messages if m.startswith("batches: called for")]
    assert len(told) == (why is not None)
    assert why is None or why in told[0]


def test_a_traced_batch_is_that_of_a_call_but_for_rounding():
    """A compiler may fuse what calls keep apart; here it does no more than that."""

    def batches(t):
        key = jax.random.fold_in(jax.random.key(1), t)
        x = jax.random.normal(key, (4, 3))
        return {"x": jnp.tanh(x) * 1.1 + x / 3, "labels": jnp.float32(t % 3)}

    traced = _traceable.trace(batches, 0, STEPS, 8)
    assert isinstance(traced, _batch_programs.Traced)
    stacked = traced.stacked(3, 8)
    for i in range(8):
        leaves = jax.tree.leaves(batches(3 + i))
        for row, leaf in zip(stacked, leaves, strict=True):
            np.testing.assert_allclose(row[i], leaf, rtol=1e-6, atol=1e-6)
