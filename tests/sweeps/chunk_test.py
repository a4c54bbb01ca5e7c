"""Chunks of bare steps: a member that breaks in one is found at its very step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import headwise as hw
from headwise.sweeps._cohort import _chunk
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _program
from headwise.sweeps._cohort import _staying
from tests.sweeps import _two_heads as two

NOTHING, VALUE, SUM, LAST = range(4)
"""What breaks: nothing; a value alone; an array for good; one that the next step
writes anew, so that it is finite again."""
WORDS = {VALUE: "the value of head 'a'", SUM: "['sum']", LAST: "['last']"}
STEPS = 12
POISONED = [
    *((NOTHING, 0), (VALUE, 0), (VALUE, 11), (VALUE, 5), (SUM, 0), (SUM, 11)),
    *((SUM, 6), (LAST, 4), (LAST, 11), (LAST, 5), (NOTHING, 0)),
]


def step(state, t):
    kind, at = (state["trial"][name] for name in ("kind", "at"))

    def poison(what):
        return jnp.where((kind == what) & (t == at), jnp.inf, 0.0)

    new = {
        "sum": state["sum"] + 1.0 + poison(SUM),
        "last": t.astype(jnp.float32) + poison(LAST),
    }
    return state | new, {"values": {"a": 1.0 + poison(VALUE)}, "t": t}


PROGRAM = hw.sweeps.Program(
    lambda trial: {"sum": 0.0, "last": -1.0, "trial": trial},
    step,
    lambda state: {"sum": state["sum"]},
)


def trials(poisoned):
    kind, at = (np.array(x, np.float32) for x in zip(*poisoned, strict=True))
    return {"kind": kind, "at": at, "seed": np.arange(len(kind), dtype=np.int32)}


@pytest.mark.parametrize("mode", _modes.MODES)
@pytest.mark.parametrize("lengths", [(12,), (5, 1, 6), (6, 6)])
def test_a_member_stops_before_the_step_that_breaks_it(mode, lengths):
    like = trials(POISONED)
    devices = jax.devices()[:2] if mode == "shard" else None
    made = _modes.cohort(
        PROGRAM, mode, like, every=1, steps=STEPS, threads=2, devices=devices
    )
    members, found = made.start(like), []
    for number in lengths:
        members, reports = made.advance(members, number)
        found.append(reports)
    seen = np.concatenate([reports.t for reports in found])
    told = np.concatenate([reports.report["t"] for reports in found])
    for k, (kind, at) in enumerate(POISONED):
        done = STEPS if kind == NOTHING else at
        assert int(members.t[k]) == done
        assert bool(members.alive[k]) == (kind == NOTHING)
        assert int(members.stopped[k]) == (-1 if kind == NOTHING else at)
        cause = made.parts.cause(int(members.cause[k])) or "None"
        assert cause.endswith(WORDS.get(kind, "None")), (kind, at)
        # By hand: what the whole steps alone leave.
        assert float(members.state["sum"][k]) == done
        assert float(members.state["last"][k]) == done - 1
        used = seen[:, k] >= 0
        np.testing.assert_array_equal(seen[used, k], range(done))
        np.testing.assert_array_equal(told[used, k], range(done))


@pytest.mark.parametrize("tells", [True, False])
def test_few_steps_are_gone_again(tells):
    """A chunk of 1000 steps in which ten of thirty members break, three of them late.

    Who tells is found in one chunk more; who does not, in halves.
    """
    at = np.full(30, _chunk.NEVER)
    at[:10] = [0, 3, 3, 400, 401, 500, 700, 990, 998, 999]
    gone = []

    def run(t, number, active):
        gone.append(number)
        broke = np.where(active & (t <= at) & (at < t + number), at - t, _chunk.NEVER)
        told = broke if tells else np.where(broke < _chunk.NEVER, number, broke)
        return np.where(active & (broke == _chunk.NEVER), t + number, t), None, told

    t, _ = _chunk.through(run, np.zeros(30, int), 1000, np.ones(30, bool))
    np.testing.assert_array_equal(t, np.minimum(at, 1000))
    assert sum(gone) <= (2100 if tells else 6000)
    assert gone[0] == 1000


@pytest.mark.parametrize(
    ("step", "stays"),
    [
        (lambda x, g: x - 0.1 * g, True),
        (lambda x, g: x * 0.0, True),  # infinity times 0 is NaN
        (lambda x, g: g + x / g, True),
        (lambda x, g: g / x, False),
        (lambda x, g: jnp.maximum(x, g), False),
        (lambda x, g: g, False),
        (lambda x, g: jnp.nan_to_num(x + g), False),
        (lambda x, g: jax.jit(lambda y: -y + g)(x), True),
        (lambda x, g: jnp.where(g > 0, x, x + g), True),
        (lambda x, g: jnp.where(g > 0, x, g), False),
        (lambda x, g: lax.cond(g[0] > 0, lambda: x + g, lambda: x), True),
        (lambda x, g: lax.cond(g[0] > 0, lambda: x + g, lambda: g), False),
        (lambda x, g: x[::-1] + g, False),  # not element by element
        (lambda x, g: (x + g).astype(jnp.bfloat16).astype(jnp.float32), True),
        (lambda x, g: jnp.exp(x), False),
    ],
)
def test_which_arrays_stay_broken(step, stays):
    x = jnp.array([1.0, 2.0])
    program = jax.make_jaxpr(step)(x, x)
    assert _staying.staying(program, 1) == (stays,)
    if stays:  # so they do
        for bad in (jnp.inf, -jnp.inf, jnp.nan):
            for g in (x, -x, 0 * x, jnp.inf * x):
                found = np.isfinite(jax.jit(step)(x.at[1].set(bad), g))
                assert not found[1]


def test_steps_are_looked_at_where_they_must_be():
    """A usual training's are not; two heads' smallest value so far is."""
    like = jax.tree.map(lambda x: x[0], two.FIVE)
    parts = _program.parts(two.PROGRAM, like)
    assert [parts.leaves[n] for n in parts.passing] == ["['best']"]
    training = hw.training.program(
        lambda params, batch: {h: (params["w"] - batch) ** 2 for h in "ab"},
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
        init=lambda key: {"w": jnp.zeros(())},
        batch=lambda key: 1.0,
        evaluate=lambda params, rest: params,
    )
    assert _program.parts(training, like).passing == ()
