"""Chunks that run while the one before is recorded: nothing that is seen is changed."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.training import _due
from headwise.training import _flight
from headwise.training import _history
from headwise.training import _steps
from tests.training._chunk_cases import assert_close
from tests.training._chunk_cases import assert_same
from tests.training._chunk_cases import batch_at
from tests.training._chunk_cases import compiled
from tests.training._chunk_cases import first_state
from tests.training._chunk_cases import fit
from tests.training._chunk_cases import on_host
from tests.training._chunk_cases import STEPS

pytestmark = pytest.mark.optimized


@pytest.fixture
def seen(monkeypatch):
    """What happens in which order: a chunk begins after a step, a record is kept."""
    events = []
    begin, keep = _flight.start, _history.History.keep

    def start(chunk, state, block, done, leg):
        events.append(("begins", done))
        return begin(chunk, state, block, done, leg)

    def kept(self, record, durable=False):
        events.append(("record", record["step"]))
        return keep(self, record, durable)

    monkeypatch.setattr(_steps, "SECONDS", 1e9)
    monkeypatch.setattr(_flight, "start", start)
    monkeypatch.setattr(_history.History, "keep", kept)
    return events


def ahead(events):
    """The steps after which a chunk began before their record was there."""
    at = {event: i for i, event in reversed([*enumerate(events)])}
    begun = [step for what, step in events if what == "begins" and step]
    return [t for t in begun if at.get(("record", t), -1) > at["begins", t]]


SOURCES = {"traceable": lambda: batch_at, "list": lambda: [*map(on_host, range(STEPS))]}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_device_works_while_the_host_records(kind, seen):
    state, history = fit(SOURCES[kind](), chunk=4, log_every=1)
    begun = [step for what, step in seen if what == "begins"]
    assert ahead(seen) == begun[1:]
    assert len(begun) <= 7
    one, two = (fit(SOURCES[kind](), chunk=n, log_every=1) for n in (2, 1))
    assert_same(state, one[0])
    assert history == one[1]
    assert_close(state, two[0])
    assert [record["step"] for record in two[1]] == list(range(1, STEPS + 1))


WANTED = {
    "stop": ({"stop": lambda history: None}, range(STEPS)),
    "best": ({"best": ("values/a", "min")}, range(STEPS)),
    "adjust": ({"adjust": lambda state, history: state}, range(STEPS)),
    "validate": (
        {"validate": lambda params, rest: {}, "validate_every": 6},
        (6, 12),
    ),
    "checkpoint": ({"checkpoint_every": 6}, (6, 12)),
    "profile": ({"profile": (5, 9)}, (5, 9)),
    "unasked": ({}, range(STEPS)),  # there is time for a checkpoint a record
    "unasked, no time": ({}, ()),
}


@pytest.mark.parametrize("what", WANTED)
def test_nothing_runs_ahead_of_where_the_state_is_wanted(
    what, seen, tmp_path, monkeypatch
):
    monkeypatch.setattr(_due, "FREE", -1e9 if what == "unasked, no time" else 1e9)
    options, wanted = WANTED[what]
    if what not in ("stop", "best", "adjust", "validate"):
        options = {**options, "workdir": tmp_path}
    if what == "profile":
        options = {**options, "checkpoint_every": STEPS}
    state, *_ = fit(batch_at, log_every=1, chunk=4, **options)
    assert not set(ahead(seen)) & set(wanted)
    assert (len(ahead(seen)) > 0) == (not isinstance(wanted, range))
    assert_same(state, fit(batch_at, chunk=2)[0])


def test_a_run_that_a_record_stops_has_the_state_of_that_record(seen):
    def stop(history):
        return "here" if history[-1]["step"] == 7 else None

    state, history = fit(batch_at, log_every=1, stop=stop)
    assert int(state.step) == int(state.rest["calls"]) == history[-1]["step"] == 7
    assert_same(state, fit(batch_at, 7, chunk=2)[0])


def broken_at(t):
    return jax.tree.map(lambda x: x * jnp.where(t == 8, jnp.nan, 1.0), batch_at(t))


def failing(t):
    if t == 8:
        raise RuntimeError("the disk of the data is gone")
    return on_host(t)


@pytest.mark.parametrize(
    ("batches", "error"),
    [(broken_at, hw.training.NonFiniteError), (failing, RuntimeError)],
)
@pytest.mark.parametrize("chunk", [1, 4])
def test_what_ends_a_run_ends_it_where_it_did(batches, error, chunk, seen, tmp_path):
    """In the chunk from step 5 on, or with the batches after it."""
    with pytest.raises(error, match=r"step 8|the disk of the data is gone"):
        fit(batches, chunk=chunk, log_every=2, checkpoint_every=7, workdir=tmp_path)
    # Records before the broken step, which is that from 8 to 9; and the checkpoint.
    records = hw.training.read_metrics(tmp_path)
    assert [record["step"] for record in records] == [2, 4, 6, 8]
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 7


def test_a_record_that_fails_gives_back_the_batches_of_the_chunk_ahead(monkeypatch):
    """One error, soon; and an iterator stands where the steps do."""
    monkeypatch.setattr(_steps, "SECONDS", 1e9)
    keep = _history.History.keep

    def full(self, record, durable=False):
        if record["step"] == 6:
            raise OSError("disk full")
        return keep(self, record, durable)

    batches = (on_host(t) for t in range(STEPS))
    monkeypatch.setattr(_history.History, "keep", full)
    with pytest.raises(OSError, match=r"^disk full$"):
        fit(batches, chunk=4, log_every=1)
    monkeypatch.setattr(_history.History, "keep", keep)
    state = first_state()
    for t in range(6):  # chunks of 1, 1 (read before that was known), 4
        state, _ = compiled()(state, on_host(t))
    state, _ = hw.training.fit(
        compiled(), state, batches, STEPS, progress=False, check=False
    )
    assert_close(state, fit(batch_at)[0])


def test_a_signal_waits_for_the_chunk_that_runs(monkeypatch, tmp_path):
    """It comes while the chunk before is recorded."""
    monkeypatch.setattr(_steps, "SECONDS", 1e9)
    keep = _history.History.keep

    def kept(self, record, durable=False):
        if record["step"] == 3:
            signal.raise_signal(signal.SIGINT)
        return keep(self, record, durable)

    options = {"log_every": 1, "checkpoint_every": STEPS, "workdir": tmp_path}
    monkeypatch.setattr(_history.History, "keep", kept)
    with pytest.raises(KeyboardInterrupt):
        fit(batch_at, chunk=4, **options)
    monkeypatch.setattr(_history.History, "keep", keep)
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 9  # chunks of 1, 4 and 4
    state, history = fit(batch_at, **options)
    whole = fit(batch_at, log_every=1, chunk=2)
    assert_same(state, whole[0])
    assert history == whole[1]


def test_a_function_of_the_step_is_traced_once_a_call():
    calls, by = [], jnp.float32(2.0)

    def batches(t):
        calls.append(isinstance(t, int))
        return jax.tree.map(lambda x: x * by, batch_at(t))

    def run(steps):
        calls.clear()
        return fit(batches, steps), [*calls]

    first, looked = run(9)
    assert looked == [False, False, True]  # twice, and once as it is
    again, looked = run(9)
    assert looked == [False]
    assert_same(first[0], again[0])
    assert run(STEPS)[1] == [False, False, True]  # steps that were not looked at
    by = jnp.float32(3.0)  # other arrays than before
    other, looked = run(9)
    assert looked == [False, False, True]
    assert not np.array_equal(other[0].params["w"], first[0].params["w"])


def test_numbers_that_only_later_steps_overflow_are_found_out():
    def batches(t):
        return {"x": jnp.ones((4, 3)), "labels": jnp.float32(t * 982451653 % 3)}

    for steps in (2, STEPS, 2):
        state, _ = fit(batches, steps)
        assert_close(state, fit(batches, steps, chunk=1)[0])
