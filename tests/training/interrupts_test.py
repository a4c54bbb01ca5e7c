"""Signals and profiles: a run that is interrupted saves its step; a trace of some."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

STEP = jax.jit(
    hw.training.make_step(lambda p, b: {"a": (p["w"] - b) ** 2}, optax.adam(0.1)),
    donate_argnums=0,
)


def fit(workdir, act=lambda t: None, steps=9, **options):
    """A record every 4 steps; acts while the batch of a step is made."""

    def batches(t):
        act(t)
        return jnp.float32(t)

    state = hw.training.init_state(["a"], {"w": 0.0}, optax.adam(0.1))
    options = dict(log_every=4, checkpoint_every=8, chunk=1, progress=False) | options
    return hw.training.fit(STEP, state, batches, steps, workdir=workdir, **options)


def at(step, number):
    return lambda t: signal.raise_signal(number) if t == step else None


@pytest.fixture(scope="module")
def whole():
    state, history = fit(None)
    return state.params["w"], history


def test_an_interrupt_saves_the_step_that_runs(tmp_path, whole, caplog):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, at(5, signal.SIGINT))
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    told = [r.getMessage() for r in caplog.records if r.name == "headwise"]
    assert told[0] == "SIGINT: stops and saves after this step; again: at once"
    assert told[1] == (
        f"{tmp_path}: stopped by SIGINT after step 6, which is saved: the same call "
        "goes on from there"
    )
    state, history = fit(tmp_path)
    assert (state.params["w"], history) == whole


def test_in_a_chunk_it_saves_the_chunk_that_runs(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, at(5, signal.SIGINT), chunk=None, log_every=1)
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert 0 < checkpoints.latest < 9
    state, _ = fit(tmp_path, chunk=None, log_every=1)
    assert state.params["w"] == whole[0]


def test_a_second_one_acts_at_once(tmp_path):
    def twice(t):
        if t == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, twice)
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest in (None, 4)


def test_what_the_user_does_with_a_signal_is_done_after_the_save(tmp_path, whole):
    seen = []

    def mine(number, frame):
        with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
            seen.append((number, checkpoints.latest))

    before = signal.signal(signal.SIGTERM, mine)
    try:
        state, _ = fit(tmp_path, at(2, signal.SIGTERM))  # goes on: nothing was raised
        assert signal.getsignal(signal.SIGTERM) is mine
        assert seen == [(signal.SIGTERM, 3)]
        assert state.params["w"] == whole[0]
        fit(None, at(2, signal.SIGTERM))  # no workdir: nothing is put off
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_takes_no_signals(tmp_path):
    ends = []
    thread = threading.Thread(target=lambda: ends.append(fit(tmp_path)[1]))
    thread.start()
    thread.join()
    assert len(ends[0]) == 3


def traced(folder):
    """Names of the events in a profiler's trace, and which steps they mark."""
    (path,) = folder.rglob("*.xplane.pb")
    # Planes, lines and events point into what they came from, and do not keep it.
    data = jax.profiler.ProfileData.from_file(str(path))
    return [
        dict(event.stats)
        for plane in list(data.planes)
        for line in list(plane.lines)
        for event in line.events
        if event.name == "step"
    ]


# jaxlib's own, which ends the process where warnings are errors.
@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__")
@pytest.mark.parametrize(
    ("profile", "steps"), [((2, 4), [2, 3]), (3, [4, 5, 6]), ((7, 99), [7, 8])]
)
def test_a_trace_marks_its_steps(profile, steps, tmp_path, whole):
    state, history = fit(tmp_path, profile=profile)
    assert (state.params["w"], history) == whole
    marked = [int(stats["step_num"]) for stats in traced(tmp_path / "profile")]
    assert min(marked) == steps[0]  # a mark a step, or one a chunk
    assert set(marked) <= set(steps)


def test_traces_that_cannot_be(tmp_path, caplog):
    for profile, words in (
        ((3, 3), r"start < stop, got \(3, 3\)"),
        ((1, 2, 3), r"\(start, stop\) with start < stop, got"),
        (0, "positive int, got 0"),
        ((0, 1.5), "int >= 0, got 1.5"),
    ):
        with pytest.raises(ValueError, match=f"^profile: expected .*{words}"):
            fit(tmp_path / "no", profile=profile)
    with pytest.raises(ValueError, match=r"^profile: expected a workdir"):
        fit(None, profile=2)
    fit(tmp_path, profile=(20, 30))
    assert not (tmp_path / "profile").exists()
    assert "profile: nothing is traced: steps 20 to 30" in caplog.text
    np.testing.assert_equal(len(caplog.messages), 1)
