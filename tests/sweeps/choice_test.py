"""Which way to run trials: by what is likely, what is measured and what fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import headwise as hw
from headwise.sweeps._cohort import _choice
from headwise.sweeps._cohort import _memory
from headwise.sweeps._cohort import _modes
from headwise.sweeps._cohort import _race
from headwise.sweeps._cohort import _stopwatch

CPU = {"cpu": True, "devices": 1, "slow_loops": False, "convolves": False}
CPU |= {"small": False}
GPU = CPU | {"cpu": False}


@pytest.mark.parametrize(
    ("machine", "trials", "cores", "order"),
    [
        (CPU, 32, 2, ["threads", "vmap"]),
        (CPU, 32, 1, ["scan", "vmap"]),
        (CPU | {"small": True}, 32, 2, ["vmap", "threads"]),
        (CPU | {"small": True}, 32, 1, ["vmap", "scan"]),
        (CPU, 1, 2, ["scan"]),
        (CPU | {"convolves": True}, 32, 2, ["threads", "vmap"]),
        (CPU | {"convolves": True, "slow_loops": True}, 32, 2, ["threads", "loop"]),
        (CPU | {"convolves": True, "slow_loops": True}, 32, 1, ["loop"]),
        (CPU | {"convolves": True, "slow_loops": True}, 1, 2, ["loop"]),
        (CPU | {"devices": 4}, 32, 2, ["threads", "vmap"]),  # one CPU, simulated
        (GPU, 32, 8, ["vmap"]),
        (GPU | {"convolves": True}, 32, 8, ["vmap", "scan"]),
        (GPU | {"devices": 4}, 32, 8, ["shard"]),
        (GPU | {"devices": 4, "convolves": True}, 32, 8, ["shard", "scan"]),
        (GPU | {"devices": 4}, 1, 8, ["scan"]),
    ],
)
def test_what_is_likely(machine, trials, cores, order):
    found = _race.likely(_modes.MODES, trials=trials, cores=cores, **machine)
    assert found == order


def test_what_is_told_is_taken():
    options = CPU | {"trials": 8, "cores": 2}
    assert _race.likely(["loop"], **options) == ["loop"]
    assert _race.likely(["scan", "threads"], **options) == ["threads"]
    assert _race.likely(["scan", "loop"], **options) == ["scan", "loop"]


def ways(seconds, *, compiling=1.0):
    """An attempt at {mode: its measurements, in turn}; what was done."""
    done, left = [], {mode: list(times) for mode, times in seconds.items()}

    def attempt(mode):
        done.append(f"compile {mode}")
        if mode not in seconds:
            return None

        def measure():
            done.append(mode)
            return left[mode].pop(0) if len(left[mode]) > 1 else left[mode][0]

        return _race.Way(8, 80.0, compiling, measure)

    return attempt, done


def test_the_fastest_is_taken():
    attempt, done = ways({"vmap": [3.0], "threads": [1.0], "scan": [2.0]})
    found, seconds, left_out = _race.decide(
        ["vmap", "threads", "scan"], attempt, trials=8, steps=100
    )
    assert list(found) == list(seconds) == ["threads", "scan", "vmap"]
    assert seconds == {"threads": 1.0, "scan": 2.0, "vmap": 3.0}
    assert not left_out
    assert done == [
        *("compile vmap", "vmap", "compile threads", "threads"),
        *("compile scan", "scan"),
    ]


def test_a_close_race_is_run_again_in_turns():
    # The first measurement of threads was disturbed.
    attempt, done = ways({"vmap": [1.0], "threads": [1.1, 1.05, 0.9], "loop": [9.0]})
    order = ["vmap", "threads", "loop"]
    _, seconds, _ = _race.decide(order, attempt, trials=8, steps=100)
    assert seconds == {"threads": 0.9, "vmap": 1.0, "loop": 9.0}
    assert done[-4:] == ["vmap", "threads", "threads", "vmap"]


@pytest.mark.parametrize(
    ("steps", "tried"),
    [
        (1, ["vmap"]),  # 8 s of work, and 1 s to compile another way
        (2, ["vmap", "threads"]),  # 16 s: a way may cost 1.6 s
    ],
)
def test_a_way_that_costs_more_than_it_could_save_is_left_out(steps, tried):
    attempt, _ = ways({"vmap": [1.0], "threads": [0.5]})
    found, _, left_out = _race.decide(["vmap", "threads"], attempt, 8, steps)
    assert sorted(found) == sorted(tried)
    assert left_out == (len(tried) == 1)


def test_what_does_not_fit_is_passed_over():
    attempt, done = ways({"threads": [1.0]})
    found, *_ = _race.decide(["vmap", "threads"], attempt, trials=8, steps=9)
    assert list(found) == ["threads"]
    assert done == ["compile vmap", "compile threads", "threads"]
    found, *_ = _race.decide(["vmap"], attempt, trials=8, steps=9)
    assert not found


def test_a_way_that_cannot_win_is_not_compiled():
    attempt, done = ways({"threads": [0.1], "vmap": [0.05]})

    def hopeless(mode, seconds):
        return mode == "vmap" and seconds >= 0.1

    order = ["threads", "vmap"]
    found, _, left_out = _race.decide(order, attempt, 8, 10**6, hopeless)
    assert list(found) == ["threads"]
    assert not left_out
    assert "compile vmap" not in done


def quadratic(width=4):
    """Descends a (x - seed)^2 + b x^2 in an array of so many numbers."""

    def init(trial):
        seed = trial["seed"].astype(jnp.float32)
        return {"weights": trial["weights"], "x": jnp.full((width,), seed)}

    def step(state, t):
        del t
        weights, x = state["weights"], state["x"]
        grad = weights["a"] * (x - 1) + weights["b"] * x
        values = {"a": jnp.mean((x - 1) ** 2), "b": jnp.mean(x**2)}
        return {"weights": weights, "x": x - 0.1 * grad}, {"values": values}

    return hw.sweeps.Program(init, step, lambda state: {"x": jnp.mean(state["x"])})


def trials(number):
    weights = np.linspace(0.5, 1.5, number, dtype=np.float32)
    return {
        "weights": {"a": weights, "b": weights[::-1]},
        "seed": np.arange(number, dtype=np.int32),
    }


PROGRAM, LARGE = quadratic(), quadratic(2**16)


def test_small_work_is_done_in_the_likeliest_way():
    choice = _choice.choose(PROGRAM, trials(8), steps=20, threads=2)
    assert (choice.mode, choice.size, choice.compiles) == ("vmap", 8, 1)
    assert choice.why.startswith("measured ")
    assert "a step a trial; others take longer to compile" in choice.why
    assert 0 < choice.seconds_a_step < 0.1
    # the weights and x at least; at most 512 rows of its reports, some numbers each
    assert 24 <= choice.bytes_a_trial < 512 * 4 * 4
    expected = 16 * 20 * choice.seconds_a_step + choice.compile_seconds
    assert choice.seconds(trials=9, steps=20) == pytest.approx(expected)  # padded


def test_long_work_is_measured_in_every_likely_way():
    choice = _choice.choose(PROGRAM, trials(8), steps=10**9, threads=2)
    assert choice.mode in ("vmap", "threads")
    assert choice.compiles == 2
    other = "in threads" if choice.mode == "vmap" else "vmapped"
    assert f"a step a trial; {other} " in choice.why


@pytest.mark.parametrize("mode", _modes.MODES)
def test_a_mode_that_is_told_is_measured(mode):
    choice = _choice.choose(PROGRAM, trials(4), steps=20, modes=[mode])
    assert (choice.mode, choice.size, choice.compiles) == (mode, 4, 1)
    assert "longer to compile" not in choice.why


def test_trials_go_in_equal_pieces_that_fit():
    """A member takes x and, in a program of several, no more than x once more or so."""
    one = LARGE.init(jax.tree.map(lambda x: x[0], trials(1)))["x"].nbytes
    choice = _choice.choose(LARGE, trials(20), 5, modes=["vmap"], limit=20 * one)
    assert 5 <= choice.size <= 10  # 2 to 4 pieces: a step holds x up to four times
    assert choice.nbytes <= 20 * one
    assert f"; {choice.size} at a time fit into 5.2 MB" in choice.why
    assert choice.compiles <= 5


def test_a_size_that_does_not_fit_is_told_with_the_largest_that_does():
    one = 2**18
    with pytest.raises(ValueError, match=r"^size: 20 trials as one program") as error:
        _choice.choose(LARGE, trials(20), 5, modes=["vmap"], size=20, limit=20 * one)
    assert str(error.value).count("\n") == 0
    assert "(vmapped) take " in str(error.value)
    assert "and 5.2 MB are free: " in str(error.value)
    largest = int(str(error.value).partition("free: ")[2].split()[0])
    needs = [
        _memory.needed(_modes.cohort(LARGE, "vmap", trials(size)))
        for size in (largest, largest + 1)
    ]
    assert needs[0] <= 20 * one < needs[1]
    fits = _choice.choose(
        LARGE, trials(20), 5, modes=["vmap"], size=largest, limit=20 * one
    )
    assert fits.size == largest


def test_one_trial_that_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"^size: one trial \(.*\) take .* free: give"):
        _choice.choose(LARGE, trials(20), 5, limit=2**17)


def test_trials_in_turn_need_less_at_once():
    need = {
        mode: _memory.needed(_modes.cohort(LARGE, mode, trials(16)))
        for mode in ("vmap", "scan")
    }
    states = 16 * 2**18
    assert states < need["scan"] < states + 5 * 2**18  # and a few of one member
    assert need["vmap"] > states


def test_convolutions_start_with_steps_one_by_one():
    kernel = jnp.ones((1, 1, 3), jnp.float32)

    def step(state, t):
        del t

        def loss(x):
            y = lax.conv_general_dilated(x[None, None], kernel, (1,), "SAME")
            return jnp.mean(y**2)

        x = state - 0.1 * jax.grad(loss)(state)
        return x, {"values": {"a": x[0]}}

    program = hw.sweeps.Program(
        lambda trial: jnp.full((8,), trial["weights"]["a"]), step, lambda x: {"x": x[0]}
    )
    choice = _choice.choose(program, trials(2), steps=8, threads=2)
    assert choice.mode == "threads"
    choice = _choice.choose(program, trials(2), steps=8, threads=1)
    assert choice.mode == "loop"


class Clockwork:
    """A cohort that takes as long as is said; notes what it is asked for."""

    def __init__(self, monkeypatch, step, call):
        self.now, self.asked, self._cold = 0.0, [], 1.0
        self._step, self._call = step, call
        monkeypatch.setattr(_stopwatch.time, "perf_counter", lambda: self.now)

    def start(self, trials):
        self.asked.append("start")
        self.now += 7.0  # is not measured
        return 0

    def advance(self, members, number, until):
        self.asked.append(number)
        assert members + number <= until
        self.now += self._step * number + self._call + self._cold
        self._cold = 0.0
        return members + number, None


@pytest.mark.parametrize(
    ("step", "call", "steps", "asked"),
    [
        (2.0, 0.0, 100, ["start", 1, 1, 1]),  # two measured steps
        (0.3, 0.0, 100, ["start", 1, 1, 4, 4]),
        (0.3, 0.0, 2, ["start", 1, 1, "start", 2, "start", 2]),
        # what is too short to be measured gets more steps
        (0.001, 0.0, 1000, ["start", 1, 1, 4, 16, 16, 16]),
        # so does what takes longer to call than to do
        (0.001, 0.1, 10**6, ["start", 1, 1, 4, 16, 64, 256, 256]),
    ],
)
def test_steps_are_measured_until_they_are_known(monkeypatch, step, call, steps, asked):
    cohort = Clockwork(monkeypatch, step, call)
    # The first step meets cold memory, and does not count; nor does a call.
    assert _stopwatch.step(cohort, None, steps) == pytest.approx(step)
    assert cohort.asked[: len(asked)] == asked
    assert len(cohort.asked) <= 3 + _stopwatch.CALLS


def test_a_trial_of_one_step_is_measured_by_it(monkeypatch):
    cohort = Clockwork(monkeypatch, 0.5, 0.0)
    assert _stopwatch.step(cohort, None, 1) == pytest.approx(1.5)
    assert cohort.asked == ["start", 1]
