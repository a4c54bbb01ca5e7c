"""Chunks: many steps in one program are what they are one by one, however they fall."""

import functools
import itertools
import logging
import os
import random
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.training import _chunks
from headwise.training import _steps
from headwise.training import _traceable

NAMES = ("a", "b")
OPTIMIZER = optax.adam(0.05)
BALANCER = hw.balancers.uncertainty()
STEPS = 17
XS = jax.random.normal(jax.random.key(7), (STEPS, 4, 3))
TRACES = []


def values_fn(params, rest, batch, key):
    """An MLP with two heads; `b` has no label in every third step."""
    TRACES.append(1)
    h = jnp.tanh(batch["x"] @ params["w"]) + 0.01 * jax.random.normal(key, ())
    values = {"a": jnp.mean((h - 0.2) ** 2), "b": jnp.mean((h + 0.1) ** 2)}
    return hw.Means(values, counts={"b": batch["labels"]}), {"calls": rest["calls"] + 1}


@functools.cache
def compiled(contributions=False):
    options = {"stateful": True, "contributions": contributions}
    return jax.jit(hw.training.make_step(values_fn, OPTIMIZER, BALANCER, **options))


@functools.cache
def first_state():
    rest = {"calls": jnp.zeros((), jnp.int32)}
    parts = ({"w": jnp.ones((3, 2))}, OPTIMIZER, BALANCER, rest, jax.random.key(3))
    return hw.training.init_state(NAMES, *parts)


def batch_at(t):
    return {"x": XS[t], "labels": jnp.float32(t % 3)}


def on_host(t):
    return jax.tree.map(np.asarray, batch_at(int(t)))


def grain(records):
    return hw.data.stream(records, batch_size=1, seed=0, shuffle=False).map(
        lambda batch: jax.tree.map(lambda x: x[0], batch)
    )


SOURCES = {
    "traceable": lambda: batch_at,
    "host": lambda: on_host,
    "list": lambda: [on_host(t) for t in range(STEPS)],
    "arrays": lambda: [batch_at(t) for t in range(STEPS)],
    "generator": lambda: (on_host(t) for t in range(STEPS)),
    "grain": lambda: grain([on_host(t) for t in range(STEPS)]),
}


def fit(batches, steps=STEPS, workdir=None, **options):
    given = {"log_every": 3, "progress": False, "check": False} | options
    step = given.pop("step", None) or compiled()
    return hw.training.fit(
        step, first_state(), batches, steps, workdir=workdir, **given
    )


def data(state):
    state = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def assert_same(one, other):
    for a, b in zip(data(one), data(other), strict=True):
        np.testing.assert_array_equal(a, b)


@functools.cache
def by_hand():
    """The state of a loop of two lines, and the means of every three of its steps."""
    state, seen = first_state(), []
    for t in range(STEPS):
        state, info = compiled()(state, on_host(t))
        seen.append(jax.device_get(info))
    return state, seen


@functools.cache
def alone():
    return fit(on_host, chunk=1)


def test_steps_one_by_one_are_those_of_a_loop_by_hand():
    state, history = alone()
    assert_same(state, by_hand()[0])
    norms = [float(info.grad_norm) for info in by_hand()[1]]
    parts = [norms[i : i + 3] for i in range(0, STEPS, 3)]
    assert [record["grad_norm"] for record in history] == [
        sum(part) / len(part) for part in parts
    ]


@pytest.mark.parametrize("chunk", [2, 7, None])
@pytest.mark.parametrize("kind", SOURCES)
def test_the_length_of_a_chunk_changes_no_bit(kind, chunk):
    state, history = fit(SOURCES[kind](), chunk=chunk)
    assert_same(state, alone()[0])
    assert history == alone()[1]


@pytest.mark.parametrize("kind", SOURCES)
def test_resumes_at_any_step_of_a_chunk(kind, tmp_path):
    state, history = alone()
    for at in (4, 13) if kind in ("traceable", "grain") else (7,):
        batches, folder = SOURCES[kind](), tmp_path / str(at)
        fit(batches, at, folder)
        again, records = fit(batches, STEPS, folder, chunk=5)
        assert_same(again, state)
        assert [r for r in records if r in history] == history
        assert [r["step"] for r in records if r not in history] in ([], [at])


@pytest.mark.parametrize("kind", ["grain", "list"])
def test_a_checkpoint_knows_nothing_of_what_was_read_ahead(kind, tmp_path):
    """An accident one step after the checkpoint, when more has been read."""

    def validate(params, rest):
        if int(rest["calls"]) == 13 and accident:
            raise InterruptedError
        return {"w": params["w"][0, 0]}

    options = {"checkpoint_every": 4, "validate": validate, "validate_every": 13}
    accident = False
    whole, _ = fit(SOURCES[kind](), workdir=tmp_path / "whole", **options)
    accident = True
    with pytest.raises(InterruptedError):
        fit(SOURCES[kind](), workdir=tmp_path / "parts", **options)
    accident = False
    parts, _ = fit(SOURCES[kind](), workdir=tmp_path / "parts", **options)
    assert_same(whole, parts)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_iterator_goes_on_where_the_steps_stand():
    batches = SOURCES["generator"]()
    state, _ = fit(batches, 5)
    for steps in (6, STEPS):
        state, _ = hw.training.fit(
            compiled(), state, batches, steps, progress=False, check=False
        )
    assert_same(state, alone()[0])
    with pytest.raises(ValueError, match="a batch for step 17"):
        hw.training.fit(compiled(), state, batches, 30, progress=False, check=False)


def test_what_was_read_ahead_is_read_again_after_an_accident():
    def validate(params, rest):
        raise InterruptedError

    batches = SOURCES["generator"]()
    options = {"validate": validate, "validate_every": 9}
    with pytest.raises(InterruptedError):
        fit(batches, **options)
    state, seen = first_state(), by_hand()[1]
    for t in range(9):
        state, _ = compiled()(state, on_host(t))
    assert len(seen) == STEPS
    state, _ = hw.training.fit(
        compiled(), state, batches, STEPS, progress=False, check=False
    )
    assert_same(state, alone()[0])


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
    return lambda t: {"x": XS[(t * 982451653 + 7) % STEPS], "labels": jnp.float32(t % 3)}


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
    assert_same(state, right)
    assert records == history
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
    assert isinstance(traced, _traceable.Traced)
    stacked = traced.stacked(3, 8)
    for i in range(8):
        leaves = jax.tree.leaves(batches(3 + i))
        for row, leaf in zip(stacked, leaves, strict=True):
            np.testing.assert_allclose(row[i], leaf, rtol=1e-6, atol=1e-6)


def convolving(params, batch):
    kernel = jnp.ones((2, 1, 1)) * params["w"]
    x = jax.lax.conv_general_dilated(
        batch[None, :, None],
        kernel,
        (1,),
        "SAME",
        dimension_numbers=("NHC", "HIO", "NHC"),
    )
    return {"a": jnp.mean(x**2)}


def printing(params, batch):
    jax.debug.callback(lambda: None)
    return {"a": jnp.sum(params["w"] * batch[0]) ** 2}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (convolving, "convolutions are slow in loops"),
        (printing, "the step has effects"),
    ],
)
def test_what_cannot_be_in_a_chunk_is_run_one_by_one_and_says_so(values, why, caplog):
    caplog.set_level(logging.INFO, "headwise")
    optimizer = optax.sgd(0.1)
    step = hw.training.make_step(values, optimizer)
    state = hw.training.init_state(["a"], {"w": jnp.ones(())}, optimizer)
    state, _ = hw.training.fit(
        step, state, lambda t: jnp.ones(4) * t, 5, progress=False, check=False
    )
    assert int(state.step) == 5
    assert caplog.messages == [f"steps are run one by one: {why}"]


def test_reports_validations_and_chunks_take_turns():
    options = {"report_every": 4, "validate_every": 5}
    options["validate"] = lambda params, rest: {"calls": rest["calls"]}
    runs = [
        fit(SOURCES["list"](), report=compiled(True), chunk=chunk, **options)
        for chunk in (1, None)
    ]
    assert_same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    options = {"report": compiled(True), "report_every": 1}
    two, more = (fit(on_host, chunk=chunk, **options)[1] for chunk in (2, None))
    assert two == more
    assert all("contributions" in record for record in two)


def test_the_first_step_that_is_not_finite_is_named_and_nothing_after_it(tmp_path):
    def batches(t):
        return jax.tree.map(lambda x: x * jnp.where(t == 8, jnp.nan, 1.0), batch_at(t))

    with pytest.raises(hw.training.NonFiniteError, match="step 8") as error:
        fit(batches, workdir=tmp_path, checkpoint_every=7)
    assert error.value.step == 8
    steps = [record["step"] for record in hw.training.read_metrics(tmp_path)]
    assert steps == [3, 6]
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 7


def test_the_caller_keeps_the_state():
    before = data(first_state())
    fit(batch_at)
    for a, b in zip(data(first_state()), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("chunk", [0, 2.5, True])
def test_a_chunk_is_some_steps(chunk):
    with pytest.raises(ValueError, match=f"chunk: .* positive int, got {chunk}"):
        fit(batch_at, chunk=chunk)


def held():
    """Threads, files and megabytes of this process."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return threading.active_count(), files, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells")
def test_two_hundred_runs_leave_nothing():
    def run(number):
        for _ in range(number):
            fit(lambda t: batch_at(t % STEPS), 4, chunk=4)

    run(20)
    threads, files, megabytes = held()
    before = len(TRACES), len(_traceable._COMPILED)
    run(200)
    after = held()
    assert (len(TRACES), len(_traceable._COMPILED)) == before
    assert after[0] <= threads
    assert after[1] <= files
    assert after[2] < megabytes + 8
    assert len(_chunks._CHUNKS[compiled()]) < 20


def test_chunks_are_as_long_as_their_time(monkeypatch):
    lengths = []
    monkeypatch.setattr(_steps, "SECONDS", 1e9)
    make = _chunks.chunk

    def spy(*args):
        made = make(*args)

        def run(state, still, moving, number):
            lengths.append(int(number))
            return made.run(state, still, moving, number)

        return made._replace(run=run)

    monkeypatch.setattr(_chunks, "chunk", spy)
    fit(batch_at)
    assert lengths == [1, 8, 8]
    monkeypatch.setattr(_steps, "SECONDS", 0.0)
    lengths.clear()
    fit(batch_at)
    assert lengths == [1] * STEPS
