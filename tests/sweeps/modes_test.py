"""Laws of cohorts in every mode: company, chunks, padding, places change nothing."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise import _xla
from headwise.sweeps._cohort import _members
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _ways
from tests.sweeps import _two_heads as two

STEPS = 20
ALONE = ("scan", "loop", "threads")  # the program knows one member
ROUNDING = 1e-6  # of vmap and shard, relative, where a step is a few sums


def cohort(mode, trials, program=two.PROGRAM, **options):
    options = {"every": 3, "steps": STEPS} | options
    if mode == "shard":
        options = {"devices": jax.devices()[:2]} | options
    return _modes.cohort(program, mode, trials, **options)


def whole(mode, trials, numbers=(STEPS,), **options):
    """(members, the reports of all chunks, metrics) of so many steps at a time."""
    made = cohort(mode, trials, **options)
    members, found = made.start(trials), []
    for number in numbers:
        members, reports = made.advance(members, number)
        found.append(reports)
    metrics = made.finish(members)
    return members, jax.tree.map(lambda *x: np.concatenate(x), *found), metrics


def same(one, other):
    """Whether all bits are."""
    jax.tree.map(np.testing.assert_array_equal, two.bits(one), two.bits(other))


@contextlib.contextmanager
def compilations():
    """[(program, mode, size)] of what is compiled meanwhile."""
    found = []

    def listen(event, seconds, **tags):
        if event == _ways.COMPILED:
            found.append((tags["program"], tags["mode"], tags["size"]))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("mode", _modes.MODES)
def test_a_cohort_does_what_its_trials_do_by_hand(mode):
    members, reports, metrics = whole(mode, two.FIVE)
    for k in range(5):
        a, b = (float(two.FIVE["weights"][h][k]) for h in "ab")
        x, values = two.by_hand(a, b, k, STEPS)
        due = [2, 5, 8, 11, 14, 17, 19]  # the last of three, and the very last
        np.testing.assert_array_equal(reports.t[:, k], due)
        np.testing.assert_allclose(metrics["x"][k], x, rtol=1e-4)
        np.testing.assert_allclose(metrics["of"]["best"][k], min(values), rtol=1e-4)
        told = reports.report["values"]["a"][:, k]
        np.testing.assert_allclose(told, np.take(values, due), rtol=1e-4)
        np.testing.assert_array_equal(reports.report["count"][:, k], due)
    np.testing.assert_array_equal(metrics["of"]["steps"], [STEPS] * 5)
    assert members.alive[:5].all()
    assert (members.stopped[:5] == -1).all()


@pytest.mark.parametrize("mode", _modes.MODES)
def test_a_trial_in_a_cohort_is_the_trial_alone(mode):
    members, reports, metrics = whole(mode, two.FIVE)
    for k in (0, 3):
        mine, told, end = whole(mode, two.one(two.FIVE, k))
        of_all = jax.tree.map(lambda x: x[k : k + 1], members)  # noqa: B023
        theirs = jax.tree.map(lambda x: x[:, k : k + 1], reports)  # noqa: B023
        if mode in ALONE:
            same(of_all, mine)
            same(theirs, told)
            continue
        np.testing.assert_array_equal(theirs.t, told.t)
        np.testing.assert_allclose(metrics["x"][k], end["x"][0], rtol=ROUNDING)
        a, b = (r.report["values"]["a"] for r in (theirs, told))
        np.testing.assert_allclose(a, b, rtol=10 * ROUNDING)


@pytest.mark.parametrize("mode", _modes.MODES)
def test_chunks_change_no_bit_and_compile_nothing(mode):
    made = cohort(mode, two.FIVE)
    made.compiled()
    with compilations() as found:
        at_once = whole(mode, two.FIVE)
        in_chunks = whole(mode, two.FIVE, (1, 7, 3, 9))
        whole(mode, two.FIVE, every=1, steps=5)
    same(at_once, in_chunks)
    assert found == []


@pytest.mark.parametrize("mode", _modes.MODES)
def test_one_compilation_a_size_of_cohort(mode):
    program = two.PROGRAM._replace(step=lambda state, t: two.step(state, t))
    with compilations() as found:
        for size in (2, 3, 2):
            made = cohort(mode, jax.tree.map(lambda x: x[:size], two.FIVE), program)  # noqa: B023
            for number in (2, 5):
                made.advance(made.start(two.trials(np.ones(size))), number)
    sizes = [size for name, _, size in found if name == "advance"]
    assert sizes == ([1] if mode in ALONE else [2, 3])  # of one member: for all sizes


@pytest.mark.parametrize("mode", _modes.MODES)
def test_a_member_that_breaks_is_frozen_named_and_harms_nobody(mode):
    wild = two.trials([1.0, 2.0, 1e20, 3.0, 1.0], [1.0, 1.0, 0.25, 1.0, 2.0], range(5))
    made = cohort(mode, wild, every=1)
    members, reports = made.advance(made.start(wild), STEPS)
    assert made.parts.cause(int(members.cause[2])) == "the value of head 'a'"
    stopped = int(members.stopped[2])
    np.testing.assert_array_equal(members.t[:5], [20, 20, stopped, 20, 20])
    np.testing.assert_array_equal(members.alive[:5], [True, True, False, True, True])
    np.testing.assert_array_equal(members.stopped[:5], [-1, -1, stopped, -1, -1])
    # What is left is what it was after the last step that was finite, and told so.
    assert np.isfinite(members.state["x"][2]).all()
    seen = reports.t[:, 2]
    np.testing.assert_array_equal(seen[seen >= 0], range(stopped))
    assert np.isfinite(reports.report["values"]["a"][:stopped, 2]).all()
    before, _ = made.advance(made.start(wild), stopped)
    state_of = lambda members: jax.tree.map(lambda x: x[2], members.state)  # noqa: E731
    same(state_of(before), state_of(members))
    # The others: bit for bit as in company that does not break.
    tame, _, _ = whole(mode, two.FIVE)
    others = jnp.array([0, 1, 3, 4])
    same(_members.take(tame, others), _members.take(members, others))


@pytest.mark.parametrize("mode", _modes.MODES)
def test_members_have_their_own_steps_and_ends(mode):
    made = cohort(mode, two.FIVE)
    until = [4, 20, 0, 9, 20]
    members, reports = made.advance(made.start(two.FIVE), 12, until)
    np.testing.assert_array_equal(members.t[:5], [4, 12, 0, 9, 12])
    wanted = [[2], [2, 5, 8, 11], [], [2, 5, 8], [2, 5, 8, 11]]
    for k, due in enumerate(wanted):
        column = reports.t[:, k]
        np.testing.assert_array_equal(column[column >= 0], due)
    members, reports = made.advance(members, 100)  # each to its end
    np.testing.assert_array_equal(members.t[:5], [STEPS] * 5)
    for k, due in enumerate(wanted):
        column = reports.t[:, k]
        rest = [t for t in (2, 5, 8, 11, 14, 17, 19) if t not in due]
        np.testing.assert_array_equal(column[column >= 0], rest)
    same(members.state, whole(mode, two.FIVE)[0].state)


@pytest.mark.parametrize("mode", _modes.MODES)
def test_compaction_and_refill(mode):
    made = cohort(mode, two.FIVE)
    members, _ = made.advance(made.start(two.FIVE), 6)
    few = jax.tree.map(lambda x: x[:2], two.FIVE)
    small = cohort(mode, few)
    left = _members.take(members, jnp.array([3, 1]))  # survivors, in any order
    left, _ = small.advance(left, 6)
    np.testing.assert_array_equal(left.t[:2], [12, 12])
    # One place is free: a new trial comes in, at step 0, beside one at step 12.
    new = small.start(two.one(two.FIVE, 4))
    np.testing.assert_array_equal(new.alive, [True, False])
    mixed = _members.put(left, jnp.array([1]), _members.take(new, jnp.array([0])))
    mixed, _ = small.advance(mixed, 100)
    np.testing.assert_array_equal(mixed.t[:2], [STEPS, STEPS])
    straight, _, _ = whole(mode, two.FIVE)
    wanted = _members.take(straight, jnp.array([3, 4]))
    if mode in ALONE:
        same(wanted, _members.take(mixed, jnp.array([0, 1])))
    np.testing.assert_allclose(
        mixed.state["x"][:2], wanted.state["x"], rtol=10 * ROUNDING
    )


@pytest.mark.parametrize("mode", ["vmap", "shard"])
def test_copies_that_fill_places_change_no_bit(mode):
    six = two.trials([1.0, 2.0, 0.5, 3.0, 1.0, 9.0], FIVE_B, range(6))
    full = whole(mode, six)
    if mode == "shard":  # two devices, three members each
        members, reports, metrics = whole(mode, two.FIVE)
        assert members.t.shape == (6,)
        assert not members.alive[5]
        assert reports.t.shape[1] == metrics["x"].shape[0] == 5
    else:  # room for six, five given
        made = cohort(mode, six)
        members, reports = made.advance(made.start(two.FIVE), STEPS)
        assert members.t[5] == 0
        assert (reports.t[:, 5] == -1).all()
    cut = lambda tree: jax.tree.map(lambda x: np.asarray(x)[:5], tree)  # noqa: E731
    same(cut(full[0].state["x"]), cut(members.state["x"]))
    np.testing.assert_array_equal(members.digest, np.zeros(6))


FIVE_B = [1.0, 1.0, 0.25, 1.0, 2.0, 1.0]


def test_no_member_is_dropped_for_devices():
    four = jax.devices()[:4]
    members, reports, metrics = whole("shard", two.FIVE, devices=four)
    assert members.t.shape == (8,)
    assert members.alive.sum() == 5
    assert len(members.state["x"].sharding.device_set) == 4
    by_vmap = whole("vmap", two.FIVE)
    np.testing.assert_allclose(metrics["x"], by_vmap[2]["x"], rtol=ROUNDING)
    np.testing.assert_array_equal(reports.t, by_vmap[1].t)


@pytest.mark.parametrize("mode", _modes.MODES)
def test_the_chain_of_hashes(mode):
    """Chunks between marks do not matter, members of the host neither; marks do."""
    made = cohort(mode, two.FIVE)

    def chain(numbers, marks, host=False):
        members, t = made.start(two.FIVE), 0
        for number in numbers:
            members, _ = made.advance(members, number)
            t += number
            if t in marks:
                members = made.mark(members, np.ones(5, bool))
            if host:  # a checkpoint: written, read, gone on with
                keys = jax.random.key_data(members.state["key"])
                rest = jax.device_get(
                    members._replace(state=members.state | {"key": 0})
                )
                key = jax.random.wrap_key_data(jnp.array(keys))
                members = rest._replace(state=rest.state | {"key": key})
        return np.asarray(members.digest)[:5]

    straight = chain((10, 10), (10, 20))
    assert len({*straight.tolist()}) == 5
    np.testing.assert_array_equal(chain((3, 7, 1, 9), (10, 20)), straight)
    np.testing.assert_array_equal(chain((10, 10), (10, 20), host=True), straight)
    assert (chain((10, 10), (20,)) != straight).all()


def test_modes_that_run_one_member_agree_bit_for_bit_on_hashes():
    digests = []
    for mode in ("scan", "threads"):
        made = cohort(mode, two.FIVE, threads=2)
        members, _ = made.advance(made.start(two.FIVE), STEPS)
        digests.append(made.mark(members, [True, False, True, True, True]).digest)
    np.testing.assert_array_equal(*digests)
    assert digests[0][1] == 0
    assert (digests[0][jnp.array([0, 2, 3, 4])] != 0).all()


def test_an_evaluation_that_cannot_be_traced_is_called_for_one_after_the_other(caplog):
    program = hw.sweeps.Program(
        lambda trial: {"w": trial["weights"]["a"]},
        lambda state, t: (state, {"values": state}),
        lambda state: {"twice": 2 * float(state["w"]), "none": None},
    )
    for mode in _modes.MODES:
        made = cohort(mode, two.FIVE, program)
        found = made.finish(made.start(two.FIVE))
        np.testing.assert_array_equal(found["twice"], 2 * two.FIVE["weights"]["a"])
        assert np.isnan(found["none"]).all()
    assert caplog.text.count("program.evaluate cannot be traced") == 1


def test_what_a_program_closes_over_is_given_to_it_not_written_into_it():
    data = jnp.arange(2.0**16)
    program = two.PROGRAM._replace(
        step=lambda state, t: (state | {"x": state["x"] + data[t]}, {"t": t})
    )
    for mode in ("vmap", "scan"):
        compiled = cohort(mode, two.FIVE, program).compiled()["advance"]
        assert compiled.memory_analysis().argument_size_in_bytes > 2**18
        assert len(compiled.as_text()) < 2**18


def test_threads_of_loops_where_compiled_loops_are_slow(monkeypatch):
    monkeypatch.setattr(_xla, "slow_in_loops", lambda program: True)
    program = two.PROGRAM._replace(step=lambda state, t: two.step(state, t))
    with compilations() as found:
        threads, loop = (
            whole(mode, two.FIVE, (7, 13), program=program, threads=2)
            for mode in ("threads", "loop")
        )
    same(threads, loop)
    assert {mode for _, mode, _ in found} == {"loop"}


@pytest.mark.parametrize("mode", _modes.MODES)
def test_members_of_another_number(mode):
    """Fewer are completed by copies that stand still, as those of a smaller cohort."""
    made = cohort(mode, two.FIVE)
    members = _members.take(made.start(two.FIVE), jnp.array([1, 4]))
    members, reports = made.advance(members, 6)
    np.testing.assert_array_equal(members.t[:5], [6, 6, 0, 0, 0])
    np.testing.assert_array_equal((reports.t >= 0).sum(0), [2, 2, 0, 0, 0])
    many = _members.take(members, jnp.zeros(made.places + 1, int))
    with pytest.raises(ValueError, match=f"members: expected at most {made.places} "):
        made.advance(many, 1)


def test_unknown_modes_and_trials_of_no_length():
    with pytest.raises(
        ValueError, match=r"mode: expected one of .*'scan'.* got 'pmap'"
    ):
        cohort("pmap", two.FIVE)
    with pytest.raises(
        ValueError, match="trials: expected arrays with one leading axis"
    ):
        cohort("vmap", {"weights": {"a": np.ones(2)}, "seed": np.ones(3)})
