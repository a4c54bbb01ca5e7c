"""Members: which break and which do not, gathers, and hashes that see every bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _modes
from tests.sweeps import _two_heads as two

NAN, INF = float("nan"), float("inf")


def run(states, reports, like=None, mode="scan"):
    """(cohort, members) of one member whose states and reports are listed by step."""
    states, reports = (
        jax.tree.map(lambda *x: jnp.stack([*map(jnp.asarray, x)]), *rows)
        for rows in (states, reports)
    )

    def at(rows, t):
        return jax.tree.map(lambda x: x[t], rows)

    program = hw.sweeps.Program(
        lambda trial: at(states, 0),
        lambda state, t: (at(states, t + 1), at(reports, t)),
        lambda state: {},
    )
    made = _modes.cohort(program, mode, {"seed": np.zeros(1, np.int32)}, every=1)
    members, told = made.advance(made.start({"seed": np.zeros(1, np.int32)}), 3)
    return made, members, told


FINE = [{"values": {"a": 1.0, "b": 1.0}}] * 3


def case(states=(0.0, 1.0, 2.0, 3.0), reports=FINE, stopped=-1, cause=None):
    return [*states], [*reports], stopped, cause


def values(*rows, **more):
    """Reports of three steps: the values of a and b in each."""
    return [
        {"values": {"a": a, "b": b}} | {name: x[i] for name, x in more.items()}
        for i, (a, b) in enumerate(rows)
    ]


CASES = {
    "nothing": case(),
    "state": case((0.0, 1.0, NAN, 3.0), stopped=1, cause="the state's array"),
    "an infinite start": case((INF, 1.0, 2.0, 3.0)),
    "no number from the start": case((NAN, NAN, INF, INF)),
    "was infinite, is finite, is infinite": case(
        (INF, 1.0, INF, 1.0), stopped=1, cause="the state's array"
    ),
    "some entry": case(
        [jnp.array(x) for x in ([INF, 1.0], [INF, 2.0], [INF, 1.0], [1.0, INF])],
        stopped=2,
        cause="the state's array",
    ),
    "integers": case([{"n": jnp.int32(i), "b": i > 1} for i in range(4)]),
    "half": case(
        [{"x": jnp.bfloat16(x), "y": 1.0} for x in (1.0, 2.0, INF, 1.0)],
        stopped=1,
        cause="the state's ['x']",
    ),
    "a value": case(
        reports=values((1, 1), (1, NAN), (1, 1)),
        stopped=1,
        cause="the value of head 'b'",
    ),
    "the first of two values": case(
        reports=values((1, 1), (1, 1), (INF, NAN)),
        stopped=2,
        cause="the value of head 'a'",
    ),
    "heads before the state": case(
        (0.0, NAN, 2.0, 3.0),
        values((1, INF), (1, 1), (1, 1)),
        stopped=0,
        cause="the value of head 'b'",
    ),
    "heads with a weight before the others": case(
        reports=values((1, 1), (NAN, NAN), (1, 1), weights=[{"a": 0.0, "b": 1.0}] * 3),
        stopped=1,
        cause="the value of head 'b'",
    ),
    "what is beside the values": case(
        reports=values((1, 1), (1, 1), (1, 1), cosine=[NAN] * 3)
    ),
    "without values all counts": case(
        reports=[{"loss": x, "n": 1} for x in (1.0, 2.0, NAN)], stopped=2
    ),
    "finite as the program says": case(
        reports=values((1, NAN), (1, 1), (NAN, 1), finite=[True] * 3)
    ),
    "broken as the program says": case(
        reports=values((1, 1), (1, 1), (1, NAN), finite=[True, False, True]), stopped=1
    ),
    "the state, whatever the program says": case(
        (0.0, 1.0, NAN, 3.0),
        values((1, NAN), (1, NAN), (1, NAN), finite=[True] * 3),
        stopped=1,
        cause="the state's array",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_which_step_breaks_a_member_and_why(name):
    states, reports, stopped, cause = CASES[name]
    made, members, told = run(states, reports)
    assert int(members.stopped[0]) == stopped
    assert made.parts.cause(int(members.cause[0])) == cause
    end = 3 if stopped < 0 else stopped
    assert int(members.t[0]) == end
    assert bool(members.alive[0]) == (stopped < 0)
    last = jax.tree.map(lambda x: x[0], members.state)
    jax.tree.map(np.testing.assert_array_equal, last, states[end])
    np.testing.assert_array_equal(told.t[:, 0], range(end))


def some(seed=0, places=4):
    """Members with arrays of many types."""
    draw = np.random.default_rng(seed).normal
    state = {
        "float32": draw(size=(places, 3)).astype(np.float32),
        "bfloat16": jnp.asarray(draw(size=(places, 5)), jnp.bfloat16),
        "int8": np.arange(places * 2, dtype=np.int8).reshape(places, 2),
        "bool": np.arange(places) % 2 == 0,
        "complex64": (draw(size=places) + 1j).astype(np.complex64),
        "key": jax.random.split(jax.random.key(seed), places),
        "empty": np.zeros((places, 0), np.float32),
        "none": None,
    }
    first = _members.first(jax.tree.map(lambda x: jnp.asarray(x)[0], state))
    members = _members.spread(first, places)
    return members._replace(
        state=jax.tree.map(jnp.asarray, state), alive=jnp.ones(places, bool)
    )


def digests(members):
    return np.asarray(_members.digested(members, np.ones(len(members.t), bool)).digest)


def test_take_put_and_padding_are_gathers():
    members = some()
    two_of = _members.take(members, np.array([2, 0]))
    alone = _members.take(members, 2)
    full = _members.padded(two_of, 4)
    np.testing.assert_array_equal(full.alive, [True, True, False, False])
    for name, x in members.state.items():
        if x is None:
            continue
        x = two.bits(x)
        np.testing.assert_array_equal(two.bits(two_of.state[name]), x[[2, 0]])
        np.testing.assert_array_equal(two.bits(alone.state[name]), x[2])
        np.testing.assert_array_equal(two.bits(full.state[name]), x[[2, 0, 0, 0]])
    others = _members.take(some(1), np.array([0, 1]))
    wanted = two.bits(others.state["key"])
    changed = _members.put(members, np.array([3, 1]), others)
    np.testing.assert_array_equal(two.bits(changed.state["key"])[[3, 1]], wanted)


def test_what_is_given_for_good_is_gone():
    members = some()
    _members.put(members, 0, _members.take(some(1), 0))
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(members.state["float32"])


def test_hashes_see_every_bit_and_its_place():
    same = digests(some())
    np.testing.assert_array_equal(digests(some()), same)

    def changed(**state):
        members = some()
        return members._replace(state=members.state | state)

    before, found = some().state, {*same.tolist()}
    x, half = before["float32"], before["bfloat16"]
    bit = jax.lax.bitcast_convert_type(x, jnp.uint32) ^ 1
    for other in (
        changed(float32=jax.lax.bitcast_convert_type(bit, jnp.float32)),
        changed(float32=x[:, ::-1]),
        changed(bfloat16=half * 2),
        changed(bool=~before["bool"]),
        changed(int8=before["int8"] + 1),
        changed(complex64=before["complex64"].conj()),
        changed(key=jax.random.split(jax.random.key(7), 4)),
        some()._replace(t=jnp.ones(4, jnp.int32)),
        some()._replace(digest=jnp.ones(4, jnp.uint32)),
    ):
        got = digests(other).tolist()
        assert not found & {*got}
        found |= {*got}
    assert (
        digests(changed(float32=-jnp.zeros((4, 3))))
        != digests(changed(float32=jnp.zeros((4, 3))))
    ).all()


def test_hashes_by_a_formula():
    """The chain once more in Python's integers, for a state of three uint32."""

    def mixed(x):
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    words = [5, 2**32 - 1, 77]
    members = _members.spread(_members.first(jnp.array(words, jnp.uint32)), 1)
    members = members._replace(alive=jnp.ones(1, bool), t=jnp.array([9], jnp.int32))
    total = sum(mixed(w ^ mixed(i * 0x85EBCA77 % 2**32)) for i, w in enumerate(words))
    wanted = 0
    for _ in range(2):
        members = _members.digested(members, np.ones(1, bool))
        wanted = mixed((wanted * 31 + 9) % 2**32)
        wanted = mixed((wanted * 31 + total) % 2**32)
        assert int(members.digest[0]) == wanted


def test_only_those_asked_for_and_alive_get_a_link():
    members = some()._replace(alive=jnp.array([True, True, False, False]))
    got = _members.digested(members, np.array([True, False, True, False])).digest
    np.testing.assert_array_equal(got != 0, [True, False, False, False])
