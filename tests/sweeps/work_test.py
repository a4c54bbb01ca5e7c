"""The loop of a worker on programs: cohorts, resume to the bit, halving, failures."""

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise import _provenance
from headwise.sweeps._cohort import _memory
from headwise.sweeps._cohort import _modes
from headwise.sweeps._store import _store
from headwise.sweeps._work import _pace
from headwise.sweeps._work import _running
from tests.sweeps import _studies

PROGRAM = _studies.program()
check = functools.partial(hw.sweeps.check, PROGRAM, _studies.DESIGN)
run = functools.partial(
    hw.sweeps.run, PROGRAM, _studies.DESIGN, steps=_studies.STEPS, **_studies.OPTIONS
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted study: its folder and records."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run((0, 1), folder=folder)


def closed_form(record):
    """The same training in float64 NumPy, without its noise."""
    a, b = record["weights"]["a"], record["weights"]["b"]
    x = np.float64((a - b) / (a + b))
    return x


def test_records_are_whole(whole):
    _, records = whole
    for record in records:
        # Noise of 0.01 a step, contracted by at most 1 - 0.05 * 1.5 a step.
        spread = 0.01 / np.sqrt(1 - (1 - 0.05 * 1.5) ** 2) / np.sqrt(3)
        assert abs(record["metrics"]["x"] - closed_form(record)) < 5 * spread
        assert record["finite"]
        assert record["settings"] == {"steps": _studies.STEPS}
        assert list(record["digests"]) == [str(8 * k) for k in range(1, 16)]
        assert record["mode"] == "vmap"


def test_curves_have_a_row_for_each_report(whole):
    folder, records = whole
    curves = hw.sweeps.curves(folder, records[0])
    assert curves["t"].tolist() == [*range(4, _studies.STEPS, _studies.EVERY)]
    assert curves["values"]["a"].shape == curves["t"].shape


def test_all_modes_agree_and_a_folder_changes_nothing(whole):
    _, records = whole
    for mode in _modes.MODES:
        again = run((0, 1), mode=mode)
        for one, other in zip(records, again, strict=True):
            assert one["metrics"]["x"] == pytest.approx(other["metrics"]["x"], abs=1e-6)
        if mode == "vmap":
            assert _studies.results(again) == _studies.results(records)


@pytest.mark.parametrize(
    ("owner", "name", "at", "checkpoint_every"),
    [(_running.Course, "settle", at, 0) for at in (1, 6, 14)]
    + [(_store.Store, "commit", at, 1e9) for at in (1, 2, 5)],
)
def test_a_study_that_was_killed_comes_to_the_same_bits(
    owner, name, at, checkpoint_every, whole, tmp_path, monkeypatch
):
    """Before any chunk is settled, of a checkpoint at each; in both its cohorts.

    Or just after a record: of the first of two trials, of which the other begins anew,
    or of the last.
    """
    folder, records = whole
    calls, act = [], getattr(owner, name)

    def dies(self, *args):
        calls.append(1)
        if len(calls) == at and owner is _running.Course:
            raise _studies.Killed
        act(self, *args)
        if len(calls) == at:
            raise _studies.Killed

    go = functools.partial(
        run, (0, 1), folder=tmp_path, checkpoint_every=checkpoint_every
    )
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        patch.setattr(_pace, "_FASTER", 2)
        with pytest.raises(_studies.Killed):
            go()
    assert len(hw.sweeps.read(tmp_path)) < len(records)
    assert _studies.results(go()) == _studies.results(records)
    for record in records:
        mine, theirs = (hw.sweeps.curves(f, record) for f in (tmp_path, folder))
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)


@pytest.fixture
def warned():
    """SIGUSR1 means something to this program."""
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("warned")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_waits_for_a_checkpoint(number, whole, tmp_path, monkeypatch):
    """And SIGUSR1, which engines send by several ways, is no second signal."""
    _, records = whole
    calls = []

    def settle(self, settled=_running.Course.settle):
        settled(self)
        calls.append(int(self._now.ran))
        if len(calls) == 3:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(_running.Course, "settle", settle)
        with pytest.raises(KeyboardInterrupt):
            run((0, 1), folder=tmp_path)
        assert len(calls) == 3
        (saved,) = (tmp_path / "ckpt/000000.0").glob("[0-9]*")
        assert saved.name == str(calls[-1])
        assert (tmp_path / "claims/000000.0.left").exists()
        again = run((0, 1), folder=tmp_path)
        assert _studies.results(again) == _studies.results(records)
        assert calls[3] > calls[2]  # it went on from there


def test_more_seeds_run_only_what_is_new(whole, tmp_path):
    _, records = whole
    run((0,), folder=tmp_path)
    both = run((0, 1), folder=tmp_path)
    assert [r["seed"] for r in both] == [0, 1] * 3
    assert _studies.results(both) == _studies.results(records)
    assert len(list((tmp_path / "done").iterdir())) == 6


def test_a_worker_ends_after_as_many_cohorts_as_it_was_asked_for(whole, tmp_path):
    """Three of two trials each, as tasks of an engine: each a call of its own."""
    _, records = whole
    for number in (2, 4, 6):
        some = run((0, 1), folder=tmp_path, cohorts=1)
        assert len(some) == len(hw.sweeps.read(tmp_path)) == number
    ends = [one["end"] for one in hw.sweeps.status(tmp_path)["workers"]]
    assert {(end["code"], end["why"]) for end in ends} == {
        (75, "as asked; 4 trials are left"),
        (75, "as asked; 2 trials are left"),
        (0, "all trials are done"),
    }
    assert _studies.results(some) == _studies.results(records)
    assert run((0, 1), folder=tmp_path, cohorts=1) == some
    with pytest.raises(ValueError, match="cohorts: expected a positive int, got 0"):
        run((0, 1), folder=tmp_path, cohorts=0)
    train = functools.partial(
        hw.sweeps.run, lambda w, s: {"m": w["a"]}, _studies.DESIGN, progress=False
    )
    assert [record["weights"]["b"] for record in train(cohorts=2)] == [0.5, 1.0]


def test_rows_that_are_the_same_are_one_trial():
    first, other, second = hw.sweeps.run(
        PROGRAM,
        {"a": [0.1, 0.2, 0.1], "b": [1.0, 1.0, 1.0]},
        steps=_studies.STEPS,
        **_studies.OPTIONS,
    )
    assert first == second != other


def test_another_study_is_refused(tmp_path):
    few = functools.partial(run, (0,), folder=tmp_path)
    few(settings={"lr": 0.1})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    with pytest.raises(
        hw.sweeps.StudyError, match=r"another study: settings.lr was 0.1, is 0.2"
    ):
        few(settings={"lr": 0.2})
    with pytest.raises(hw.sweeps.StudyError, match="another study: a study of was"):
        hw.sweeps.run(
            lambda w, s: {"m": w["a"]}, _studies.DESIGN, folder=tmp_path, progress=False
        )
    # The same text, another number in what it closes over.
    with pytest.raises(hw.sweeps.StudyError, match=r"uses\.work was 0, is 1"):
        hw.sweeps.run(
            _studies.program(1),
            _studies.DESIGN,
            steps=_studies.STEPS,
            folder=tmp_path,
            settings={"lr": 0.1},
            **_studies.OPTIONS,
        )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def of_data(data):
    """A program that closes over an array."""
    return hw.sweeps.Program(
        lambda trial: trial["weights"]["a"] + jnp.float32(0),
        lambda x, t: (x + jnp.sum(data), {"values": {"a": x}}),
        lambda x: {"x": x},
    )


def test_other_data_are_another_program(tmp_path):
    go = functools.partial(
        hw.sweeps.run, steps=2, folder=tmp_path, mode="scan", progress=False
    )
    ones = np.ones(20, np.float32)
    go(of_data(jnp.asarray(ones)), {"a": [1.0]})
    with pytest.raises(hw.sweeps.StudyError, match="the data that they take"):
        go(of_data(jnp.asarray(2 * ones)), {"a": [1.0, 2.0]})
    (one, two) = go(of_data(jnp.asarray(ones)), {"a": [1.0, 2.0]})
    assert [one["metrics"]["x"], two["metrics"]["x"]] == [41.0, 42.0]


def test_a_member_that_breaks_is_named_and_harms_no_other(tmp_path):
    go = functools.partial(
        hw.sweeps.run,
        _studies.breaks(),
        {"a": [1.0]},
        (0, 1, 2),
        steps=9,
        mode="vmap",
        folder=tmp_path,
        progress=False,
    )
    records = go()
    assert [r["metrics"] for r in records] == [{"x": 9.0}, {}, {"x": 9.0}]
    assert [r["stopped"] for r in records] == [None, 5, None]
    assert records[1]["error"] == "step 5: the value of head 'a' is not finite"
    assert go() == records
    again = go(retry=True)
    assert again[0] == records[0]
    assert again[1]["stopped"] == 5
    assert len(list((tmp_path / "done").iterdir())) == 4
    assert len(hw.sweeps.read(tmp_path)) == 3


def test_a_run_may_stop_at_the_first_failure(tmp_path):
    go = functools.partial(
        hw.sweeps.run,
        _studies.breaks(),
        {"a": [1.0]},
        (0, 1),
        steps=9,
        mode="vmap",
        folder=tmp_path,
        progress=False,
    )
    with pytest.raises(FloatingPointError, match=r"trial a=1 seed=1: step 5: .*retry"):
        go(stop_on_failure=True)
    (record,) = hw.sweeps.read(tmp_path)
    assert record["stopped"] == 5
    assert [r["metrics"] for r in go(stop_on_failure=True)] == [{"x": 9.0}, {}]


def test_static_values_make_other_programs():
    def make(kind, power):
        def step(x, t):
            new = x + power if kind == "sum" else x * power
            return new, {"values": {"a": new}}

        return hw.sweeps.Program(
            lambda trial: trial["weights"]["a"] + 0 * trial["lr"],
            step,
            lambda x: {"x": x},
        )

    records = hw.sweeps.run(
        make,
        {"a": [1.0]},
        steps=3,
        vary={"kind": ["sum", "product"], "power": [2, 3], "lr": [0.1, 0.2]},
        static=["power"],
        mode="vmap",
        progress=False,
    )
    x = [record["metrics"]["x"] for record in records]
    assert x == [7.0, 7.0, 10.0, 10.0, 8.0, 8.0, 27.0, 27.0]
    assert records[-1]["settings"] == {
        "steps": 3,
        "kind": "product",
        "power": 3,
        "lr": 0.2,
    }


def test_verify_runs_the_first_steps_again(whole):
    """Beside others and alone are the same to a rounding; it says which steps."""
    folder, records = whole
    found = hw.sweeps.verify(PROGRAM, folder, records[2])
    assert found.holds
    assert found.difference <= 1e-6
    assert (found.rounding, found.steps, found.digests_at) == (1e-5, 16, (8, 16))
    assert found.values_at == (4, 9, 14)
    assert f"trial {found.trial} (a=1 b=1 seed=0): 16 steps by vmap: " in str(found)
    other = hw.sweeps.verify(breaks_slightly(0.01), folder, found.trial[:10])
    assert not other.holds
    assert "DOES NOT HOLD" in str(other)
    with pytest.raises(ValueError, match="trial: expected the key of one trial"):
        hw.sweeps.verify(PROGRAM, folder, "")


@pytest.mark.parametrize("mode", ["scan", "loop", "threads"])
def test_verify_wants_the_same_bits_where_a_trial_runs_alone(
    mode, tmp_path, monkeypatch
):
    """A rate that is larger by 1e-6 is another training, though hardly to be seen."""
    record, *_ = run((0,), mode=mode, folder=tmp_path)
    found = hw.sweeps.verify(PROGRAM, tmp_path, record)
    assert (found.same_bits, found.difference, found.rounding) == (True, 0, 0)
    assert f"16 steps by {mode}: the same bits after steps 8, 16: holds" in str(found)
    other = hw.sweeps.verify(breaks_slightly(1e-6), tmp_path, record)
    assert 0 < other.difference < 1e-5
    assert not other.holds
    # On another device, or by other versions, nobody promises the bits: that is said.
    here = _provenance.made_with()
    there = here | {"versions": here["versions"] | {"jaxlib": "9.9"}, "host": "moon"}
    monkeypatch.setattr(_provenance, "made_with", lambda: there)
    other = hw.sweeps.verify(breaks_slightly(1e-6), tmp_path, record)
    assert other.holds
    assert other.rounding == 1e-3
    lines = [
        f"the host was {here['host']}, is moon",
        f"jaxlib was {here['versions']['jaxlib']}, is 9.9",
    ]
    assert str(other).splitlines()[1:] == lines


def breaks_slightly(by):
    """The program with a learning rate that is a little larger."""

    def step(state, t):
        new, report = PROGRAM.step(state, t)
        return {**new, "x": state["x"] + (1 + by) * (new["x"] - state["x"])}, report

    return PROGRAM._replace(step=step)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": None}, "steps: expected a positive int"),
        ({"mode": "fast"}, "mode: expected .*got 'fast'"),
        ({"size": 0}, "size: expected a positive int, got 0"),
        ({"workers": 0}, "workers: expected a positive int, got 0"),
        ({"report_every": 0}, "report_every: expected a positive int, got 0"),
        ({"checkpoint_every": -1}, "checkpoint_every: expected"),
        ({"vary": {"kind": ["x", "y"]}}, r"program: expected a function make\(kind\)"),
        ({"settings": {"steps": 3}}, r"settings\['steps'\]: expected that of steps"),
        ({"batched": True}, "batched: expected a plain train"),
    ],
    ids=str,
)
def test_mistakes_are_told_and_nothing_is_written(options, text, tmp_path):
    folder = tmp_path / "new"
    with pytest.raises((ValueError, TypeError), match=text):
        run((0,), folder=folder, **options)
    assert not folder.exists()


def test_a_size_beyond_memory_is_told_and_nothing_is_written(tmp_path, monkeypatch):
    """With 100 bytes a trial, 250 hold two of the four; `check` says it, too."""
    monkeypatch.setattr(_memory, "needed", lambda cohort: 100 * cohort.places)
    monkeypatch.setattr(_memory, "free", lambda device=None: 250)
    given = {"steps": 120, "mode": "vmap", "size": 3, "folder": tmp_path / "new"}
    says = "3 trials as one program .* 300 B, and 250 B are free: 2 is the largest size"
    for call in (hw.sweeps.check, hw.sweeps.run):
        with pytest.raises(ValueError, match=says):
            call(PROGRAM, _studies.DESIGN, (0, 1), **given)
        assert not given["folder"].exists()
    # What is done needs no memory, and a size of more trials than there are is that.
    given |= {"size": 2, "folder": tmp_path / "study"}
    run((0,), folder=given["folder"], size=2)
    monkeypatch.setattr(_memory, "free", lambda device=None: 1)
    check((0,), **given)
    with pytest.raises(ValueError, match="give a smaller model"):
        check((0, 1), **given)
    monkeypatch.setattr(_memory, "free", lambda device=None: 350)
    check((0,), **given | {"size": 2**31 - 1, "folder": tmp_path / "new"})
    with pytest.raises(hw.sweeps.StudyError, match=r"settings\.steps was 120, is 7"):
        check((0,), **given | {"steps": 7})
