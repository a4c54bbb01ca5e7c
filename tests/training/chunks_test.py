"""Chunks: many steps in one program are what they are one by one, however they fall."""

import functools
import itertools
import logging
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.training import _batch_programs
from headwise.training import _chunks
from headwise.training import _steps
from tests.training._chunk_cases import assert_close
from tests.training._chunk_cases import assert_same
from tests.training._chunk_cases import BALANCER
from tests.training._chunk_cases import batch_at
from tests.training._chunk_cases import compiled
from tests.training._chunk_cases import data
from tests.training._chunk_cases import first_state
from tests.training._chunk_cases import fit
from tests.training._chunk_cases import grain
from tests.training._chunk_cases import on_host
from tests.training._chunk_cases import OPTIMIZER
from tests.training._chunk_cases import STEPS
from tests.training._chunk_cases import TRACES
from tests.training._chunk_cases import values_fn

pytestmark = pytest.mark.optimized

SOURCES = {
    "traceable": lambda: batch_at,
    "host": lambda: on_host,
    "list": lambda: [on_host(t) for t in range(STEPS)],
    "arrays": lambda: [batch_at(t) for t in range(STEPS)],
    "generator": lambda: (on_host(t) for t in range(STEPS)),
    "grain": lambda: grain([on_host(t) for t in range(STEPS)]),
}


@functools.cache
def by_hand():
    """The state of a loop of two lines, and the means of every three of its steps."""
    state, seen = first_state(), []
    for t in range(STEPS):
        state, info = compiled()(state, on_host(t))
        seen.append(jax.device_get(info))
    return state, seen


@functools.cache
def whole():
    """A run in chunks of two, what every other run in chunks must be bit for bit."""
    return fit(on_host, chunk=2)


def test_steps_one_by_one_are_those_of_a_loop_by_hand():
    state, history = fit(on_host, chunk=1)
    assert_same(state, by_hand()[0])
    assert_close(whole()[0], state)
    norms = [float(info.grad_norm) for info in by_hand()[1]]
    parts = [norms[i : i + 3] for i in range(0, STEPS, 3)]
    assert [record["grad_norm"] for record in history] == [
        sum(part) / len(part) for part in parts
    ]


@pytest.mark.parametrize("chunk", [3, 7, None])
@pytest.mark.parametrize("kind", SOURCES)
def test_the_length_of_a_chunk_changes_no_bit(kind, chunk):
    state, history = fit(SOURCES[kind](), chunk=chunk)
    assert_same(state, whole()[0])
    assert history == whole()[1]


@pytest.mark.parametrize("kind", SOURCES)
def test_resumes_at_any_step_of_a_chunk(kind, tmp_path):
    state, history = whole()
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
    right, _ = fit(SOURCES[kind](), workdir=tmp_path / "whole", **options)
    accident = True
    with pytest.raises(InterruptedError):
        fit(SOURCES[kind](), workdir=tmp_path / "parts", **options)
    accident = False
    parts, _ = fit(SOURCES[kind](), workdir=tmp_path / "parts", **options)
    assert_same(right, parts)
    files = [tmp_path / name / "metrics.jsonl" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_iterator_goes_on_where_the_steps_stand():
    batches = SOURCES["generator"]()
    state, _ = fit(batches, 5)
    for steps in (6, STEPS):
        state, _ = hw.training.fit(
            compiled(), state, batches, steps, progress=False, check=False
        )
    assert_same(state, whole()[0])
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
    assert_close(state, whole()[0])  # nine steps of it one by one


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
    called = []

    def batches(t):
        called.append(t)
        return jnp.sin(jnp.ones(4) * t)

    state, _ = hw.training.fit(step, state, batches, 30, progress=False, check=False)
    assert int(state.step) == 30
    assert len(called) < 10  # a program makes the batches, though none are stacked
    assert caplog.messages == [f"steps are run one by one: {why}"]


def test_reports_validations_and_chunks_take_turns():
    options = {"report_every": 4, "validate_every": 5}
    options["validate"] = lambda params, rest: {"calls": rest["calls"]}
    runs = [
        fit(SOURCES["list"](), report=compiled(True), chunk=chunk, **options)
        for chunk in (2, None)
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


def own(state, batch):
    """A step as a user writes it."""
    return compiled()(state, batch)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells")
def test_two_hundred_runs_leave_nothing():
    plain = hw.training.make_step(values_fn, OPTIMIZER, BALANCER, stateful=True)
    steps = itertools.cycle([compiled(), plain, jax.jit(own)])

    def run(number):
        for _ in range(number):
            fit(lambda t: batch_at(t % STEPS), 4, chunk=4, step=next(steps))

    def programs():
        made = sum(len(of_step) for of_step in _chunks._CHUNKS.values())
        return made, len(TRACES), len(_batch_programs._COMPILED)

    run(30)
    before, (threads, files, megabytes) = programs(), held()
    run(200)
    assert programs() == before
    after = held()
    assert after[0] <= threads
    assert after[1] <= files
    assert after[2] < megabytes + 8


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
