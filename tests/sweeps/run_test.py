"""run: one program for all trials, a store that survives, trials that may diverge."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._store import _links
from headwise.sweeps._work import _alone
from headwise.sweeps._work import _plain

DESIGN = {"a": [1.0, 1.0, 2.0], "b": [0.5, 1.0, 1.0]}


def train(weights, seed):
    """Gradient descent on a (x - 1)^2 + b (x + 1)^2 from a random start."""
    start = jax.random.normal(jax.random.key(seed), ())

    def body(_, x):
        return x - 0.1 * (2 * weights["a"] * (x - 1) + 2 * weights["b"] * (x + 1))

    return {"x": jax.lax.fori_loop(0, 40, body, start), "start": {"x": start}}


@pytest.mark.parametrize("batched", [False, True])
def test_records_equal_the_closed_form(batched):
    records = hw.sweeps.run(train, DESIGN, (0, 1), batched=batched, progress=False)
    keys = [(r["weights"]["a"], r["weights"]["b"], r["seed"]) for r in records]
    assert keys == [(a, b, s) for a, b in zip(*DESIGN.values()) for s in (0, 1)]
    for record in records:
        a, b = record["weights"]["a"], record["weights"]["b"]
        # 40 contractions by at most 0.7 leave less than 1e-6 of the start
        assert record["metrics"]["x"] == pytest.approx((a - b) / (a + b), abs=1e-5)
        assert record["finite"]


def test_batched_row_equals_the_trial_alone():
    together = hw.sweeps.run(train, DESIGN, (3, 4), batched=True, progress=False)
    alone = hw.sweeps.run(train, DESIGN, (3, 4), progress=False)
    for a, b in zip(together, alone, strict=True):
        assert a["metrics"]["x"] == pytest.approx(b["metrics"]["x"], abs=1e-6)
        assert a["metrics"]["start"] == b["metrics"]["start"]


def test_weights_are_data_and_compile_once():
    traces = []

    @jax.jit
    def counted(weights, seed):
        traces.append(1)
        return train(weights, seed)

    hw.sweeps.run(counted, DESIGN, (0, 1, 2), progress=False)
    assert len(traces) == 1


def test_finished_trials_are_not_run_again(tmp_path):
    calls = []

    def counted(weights, seed):
        calls.append((float(weights["b"]), int(seed)))
        return {"m": weights["b"]}

    small = {"a": [1.0], "b": [0.1]}
    hw.sweeps.run(counted, small, (0,), folder=tmp_path, progress=False)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text() + '{"weights": {"a": 1.0, "b"')  # killed here
    wide = {"a": [1.0, 1.0], "b": [0.1, 0.7]}
    with pytest.warns(UserWarning, match="trials.jsonl: line 2 skipped"):
        records = hw.sweeps.run(counted, wide, (0, 1), folder=tmp_path, progress=False)
    assert len(records) == 4
    assert len(calls) == len(set(calls)) == 4
    with pytest.warns(UserWarning, match="trials.jsonl: line 2 skipped"):
        assert hw.sweeps.read_trials(tmp_path) == records


@pytest.mark.parametrize("batched", [False, True])
def test_settings_tell_trials_apart_and_nothing_is_rewritten(batched, tmp_path):
    def sweep(rate):
        return hw.sweeps.run(
            train,
            DESIGN,
            settings={"lr": np.float32(rate), "note": "x"},
            folder=tmp_path,
            batched=batched,
            progress=False,
        )

    path = tmp_path / "trials.jsonl"
    path.write_text('{"of": "a later version"}\n')

    def in_turn():
        first = sweep(0.1)
        text = path.read_text()
        assert sweep(0.1) == first
        assert path.read_text() == text
        second = sweep(0.2)
        assert path.read_text().startswith(text)
        assert hw.sweeps.read(tmp_path) == first + second
        return first, second

    with pytest.warns(UserWarning, match="line 1 skipped"):
        first, second = in_turn()
    assert [r["settings"]["lr"] for r in second] == [float(np.float32(0.2))] * 3
    assert {r["mode"] for r in first} == {"vmap" if batched else "loop"}
    assert first[0]["made_with"]["versions"]["jax"] == jax.__version__


def rated(rate):
    return lambda weights, seed: {"m": weights["a"] * rate}


def by(weights, seed, *, rate):
    return {"m": weights["a"] * rate}


@pytest.mark.parametrize(
    ("first", "same", "other", "words"),
    [
        (rated(0.5), rated(0.5), rated(0.25), "rate was 0.5, is 0.25"),
        (
            functools.partial(by, rate=2),
            jax.jit(functools.partial(by, rate=np.float64(2.0))),
            functools.partial(by, rate=3),
            "rate was 2, is 3",
        ),
        (
            rated(0.5),
            rated(0.5),
            functools.partial(by, rate=0.5),
            r"text of .*run_test",
        ),
    ],
)
def test_a_folder_is_of_one_train(first, same, other, words, tmp_path):
    wide = {"a": [1.0, 2.0, 3.0, 1.0], "b": [0.5, 1.0, 1.0, 1.0]}
    go = functools.partial(hw.sweeps.run, folder=tmp_path, progress=False)
    before = go(first, DESIGN)
    assert go(same, wide, (0, 1))[0] == before[0]
    text = (tmp_path / "trials.jsonl").read_text()
    with pytest.raises(hw.sweeps.StudyError, match=f"by another train: .*{words}"):
        go(other, wide)
    assert (tmp_path / "trials.jsonl").read_text() == text
    (trial,) = go(other, {"a": [1.0], "b": [0.5]}, settings={"version": 2})
    assert trial["settings"] == {"version": 2}


@pytest.mark.parametrize("batched", [False, True])
def test_a_trial_that_diverges_harms_no_other(batched, tmp_path):
    def may_diverge(weights, seed):
        return {"m": jnp.log(weights["b"] - 0.75)}

    records = hw.sweeps.run(
        may_diverge, DESIGN, folder=tmp_path, batched=batched, progress=False
    )
    assert [r["finite"] for r in records] == [False, True, True]
    assert records[0]["metrics"] == {"m": None}
    assert records[0]["error"] == "a metric is not finite"
    np.testing.assert_allclose(records[1]["metrics"]["m"], np.log(0.25), rtol=1e-6)
    assert hw.sweeps.read_trials(tmp_path) == records


def test_a_trial_that_stops_on_nan_is_recorded():
    def stops(weights, seed):
        if weights["b"] < 0.75:
            raise hw.training.NonFiniteError(17, "the gradient")
        return {"m": 1.0}

    records = hw.sweeps.run(stops, DESIGN, progress=False)
    assert records[0]["error"] == "step 17: the gradient is not finite"
    assert [r["stopped"] for r in records] == [17, None, None]
    assert [r["finite"] for r in records] == [False, True, True]


def test_a_programming_error_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        hw.sweeps.run(lambda w, s: {"m": 1 / 0}, DESIGN, progress=False)


@pytest.mark.parametrize("batched", [False, True])
def test_a_metric_of_sums_stands_for_its_value(batched):
    def counted(weights, seed):
        total = jnp.stack([weights["a"], weights["b"]])
        ratio = hw.metrics.Ratio(total, jnp.full(2, 2.0))
        return {"mean": ratio.mean, "each": ratio.named(["a", "b"])}

    (*_, last) = hw.sweeps.run(counted, DESIGN, batched=batched, progress=False)
    assert last["metrics"] == {"mean": 0.75, "each": {"a": 1.0, "b": 0.5}}


@pytest.mark.parametrize("batched", [False, True])
def test_a_metric_that_is_no_scalar_is_named(batched):
    def per_class(weights, seed):
        return {"dice": {"each": jnp.ones(3) * weights["a"]}}

    text = r"metrics\['dice'\]\['each'\]: expected a scalar, got shape \(3,\)"
    with pytest.raises(ValueError, match=text):
        hw.sweeps.run(per_class, DESIGN, batched=batched, progress=False)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        (0.5, r"metrics: expected a dict \{name: scalar\}, got float"),
        (None, "metrics: expected a dict .*got NoneType"),
        ({1: 0.5}, r"metrics: expected names \(str\), got 1"),
        ({"m": "high"}, r"metrics\['m'\]: expected a scalar, got str"),
        ({"m": {"n": (1.0, 2.0)}}, r"metrics\['m'\]\['n'\]: .*, got tuple"),
        (
            {"m": hw.metrics.Ratio(jnp.ones(3), jnp.ones(3))},
            r"metrics\['m'\]: .*, got shape \(3,\); .* its .mean, or .named",
        ),
        ({"m": np.complex64(1j)}, r"metrics\['m'\]: .*real scalar, got complex64"),
    ],
)
def test_what_is_no_metrics_is_said_before_a_program_is_made(metrics, text, batched):
    with pytest.raises((ValueError, TypeError), match=text):
        hw.sweeps.run(lambda w, s: metrics, DESIGN, batched=batched, progress=False)


EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\na page of buffers"


def test_a_trial_that_is_out_of_memory_is_a_record(tmp_path, caplog):
    calls, room = [], [0.9]

    def greedy(weights, seed):
        calls.append(float(weights["b"]))
        if weights["b"] > room[0]:
            if weights["a"] > 1:
                raise MemoryError
            raise jax.errors.JaxRuntimeError(EXHAUSTED)
        return {"m": weights["b"]}

    def sweep(**options):
        return hw.sweeps.run(greedy, DESIGN, folder=tmp_path, progress=False, **options)

    records = sweep()
    assert [r["finite"] for r in records] == [True, False, False]
    assert [r["error"] for r in records] == [
        None,
        "out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.",
        "out of memory: MemoryError",
    ]
    assert [r["metrics"] for r in records] == [{"m": 0.5}, {}, {}]
    said = "2 of 3 trials ran out of memory and count as done: retry=True tries them"
    assert [message[: len(said)] for message in caplog.messages] == [said]
    # They are done: neither tried for ever nor forgotten, and said each time.
    assert sweep() == records
    assert calls == [0.5, 1.0, 1.0]
    assert [message[: len(said)] for message in caplog.messages] == [said] * 2
    room[0] = 2.0
    again = sweep(retry=True)
    assert calls[3:] == [1.0, 1.0]
    assert [r["metrics"] for r in again] == [{"m": 0.5}, {"m": 1.0}, {"m": 1.0}]
    assert hw.sweeps.read(tmp_path) == again == sweep(retry=True)
    assert len(calls) == 5


@pytest.mark.parametrize("error", [MemoryError, jax.errors.JaxRuntimeError])
def test_a_program_that_is_out_of_memory_is_cut(error, monkeypatch, caplog):
    sizes, whole = [], _alone.together

    def small(many, trials):
        sizes.append(len(trials))
        if len(trials) > 2:
            raise error(EXHAUSTED)
        return whole(many, trials)

    monkeypatch.setattr(_alone, "together", small)
    records = hw.sweeps.run(train, DESIGN, (0, 1), batched=True, progress=False)
    assert sizes == [6, 3, 2, 2, 2]
    assert "6 trials as one program are out of memory: on with 3" in caplog.messages[0]
    alone = hw.sweeps.run(train, DESIGN, (0, 1), progress=False)
    for a, b in zip(records, alone, strict=True):
        assert a["metrics"]["x"] == pytest.approx(b["metrics"]["x"], abs=1e-6)


@pytest.mark.parametrize(
    "error", [OSError, jax.errors.JaxRuntimeError("INTERNAL: a lost device")]
)
def test_faults_that_the_next_trial_would_meet_too_end_the_sweep(error, tmp_path):
    def fails(weights, seed):
        raise error

    with pytest.raises((OSError, jax.errors.JaxRuntimeError)):
        hw.sweeps.run(fails, DESIGN, folder=tmp_path, progress=False)
    assert hw.sweeps.read(tmp_path) == []


def test_seeds_may_be_a_generator():
    records = hw.sweeps.run(train, DESIGN, (s for s in (0, 1)), progress=False)
    assert [record["seed"] for record in records] == [0, 1] * 3


def test_rows_that_are_the_same_are_one_trial(tmp_path):
    calls = []

    def counted(weights, seed):
        calls.append(1)
        return {"m": weights["a"]}

    first, other, second = hw.sweeps.run(
        counted, {"a": [0.1, 0.2, 0.1]}, folder=tmp_path, progress=False
    )
    assert len(calls) == len(hw.sweeps.read(tmp_path)) == 2
    assert first == second != other


def test_of_one_program_no_one_knows_how_far(capsys):
    hw.sweeps.run(train, DESIGN, batched=True)
    out = capsys.readouterr().out
    assert "3 trials as one program: no word until all end\n" in out
    assert re.search(r"trial 3/3 3 trials as one program: \d+\.\d s\n", out)


def test_lines_count_the_trials_of_this_design(tmp_path, capsys):
    wide = {"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0]}
    hw.sweeps.run(train, wide, folder=tmp_path, progress=False)
    hw.sweeps.run(train, {"a": [2.0, 5.0], "b": [1.0, 1.0]}, folder=tmp_path)
    out = capsys.readouterr().out
    assert "trial 2/2 a=5 b=1 seed=0" in out
    assert "trial 1/2" not in out


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ((1, 1), r"seeds: expected .*distinct.*\[1, 1\]"),
        ([], "seeds: expected one or more"),
        ([1.5], r"seeds\[0\]: expected an int, got 1.5"),
        ("01", r"seeds\[0\]: expected an int, got '0'"),
        ([0, -1], r"seeds\[1\]: expected 0 <= seed < 2\*\*31, got -1"),
        ([2**31], r"seeds\[0\]: expected .*2147483648"),
        (5, "seeds: expected a sequence of ints, got 5"),
    ],
)
def test_seeds_are_checked(seeds, text):
    with pytest.raises((ValueError, TypeError), match=text):
        hw.sweeps.run(train, DESIGN, seeds, progress=False)


def test_a_line_a_trial_where_no_bar_can_be_drawn(capsys):
    hw.sweeps.run(train, DESIGN)
    assert "trial 3/3 a=2 b=1 seed=0:" in capsys.readouterr().out


@pytest.mark.parametrize("trials", [16, 64, 256])
def test_looks_at_a_study_are_few_however_many_trials(trials, tmp_path, monkeypatch):
    """Each lists all that is done: they may not be as many as there are trials.

    By hand: cohorts of a fourth of what is left, 4 (ln(n / 4) + 1) of them and those
    that are rounded, with a few looks each.
    """
    monkeypatch.setattr(_plain, "PARTS", 4)
    looks, names = [], _links.names

    def counted(folder, prefix=""):
        found = names(folder, prefix)
        looks.extend([len(found)] * (folder.name == "done"))
        return found

    monkeypatch.setattr(_links, "names", counted)
    design = {"a": np.linspace(1, 2, trials)}
    run = hw.sweeps.run(
        lambda weights, seed: {"a": weights["a"]},
        design,
        folder=tmp_path,
        progress=False,
    )
    assert [record["metrics"]["a"] for record in run] == pytest.approx(design["a"])
    cohorts = len(list((tmp_path / "cohorts").glob("*.json")))
    assert cohorts <= 4 * (np.log(trials / 4) + 2)
    assert len(looks) <= 4 * cohorts + 8
