"""Records: what they hold, what tells trials apart, a file that nothing can spoil."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise import _engine

MADE = {"versions": {}, "revision": None}
AWKWARD = 0.1 + 0.2  # 0.30000000000000004: shorter texts are other numbers


def record(weight=1.0, seed=0, metric=0.5, **others):
    return hw.sweeps.record(
        {"a": weight}, seed, {"m": metric}, made_with=MADE, **others
    )


def test_a_record_round_trips_through_json_at_full_precision(tmp_path):
    numbers = [AWKWARD, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 0.1234561]
    metrics = {"all": {str(i): x for i, x in enumerate(numbers)}, "big": 2.0**60}
    made = hw.sweeps.record(
        {"b": AWKWARD, "a": np.float32(0.1)},
        np.int64(3),
        metrics,
        settings={"lr": AWKWARD, "steps": 800, "balancer": "cagrad", "c": None},
        seconds=1.25,
        mode="loop",
    )
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    hw.sweeps.append(tmp_path, made)
    assert hw.sweeps.read(tmp_path) == [made]
    assert list(made["metrics"]["all"].values()) == numbers
    assert made["weights"] == {"b": AWKWARD, "a": float(np.float32(0.1))}
    assert list(made) == list(hw.sweeps.Record.__annotations__)


@pytest.mark.parametrize("bad", [np.nan, np.inf, jnp.float32(-np.inf), None])
def test_a_metric_that_is_not_finite_is_none(bad):
    made = hw.sweeps.record({}, 0, {"x": 1.0, "y": {"z": bad}}, made_with=MADE)
    assert made["metrics"] == {"x": 1.0, "y": {"z": None}}
    assert not made["finite"]
    assert made["error"] == "a metric is not finite"


def test_a_trial_that_stopped_or_failed_is_not_finite():
    whole = record()
    assert (whole["finite"], whole["stopped"], whole["error"]) == (True, None, None)
    stopped = record(stopped=17)
    assert (stopped["finite"], stopped["stopped"]) == (False, 17)
    assert hw.sweeps.halved(stopped)
    assert not hw.sweeps.halved(whole)
    assert not hw.sweeps.halved(record(stopped=17, error="a loss is not finite"))
    assert not hw.sweeps.halved({"weights": {}, "seed": 0, "finite": False})
    failed = hw.sweeps.record({}, 0, {}, error="no output", made_with=MADE)
    assert (failed["finite"], failed["error"]) == (False, "no output")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: record(np.inf), r"weights\['a'\]: expected a finite number, got inf"),
        (lambda: record([1.0]), r"weights\['a'\]: expected a scalar, got list"),
        (lambda: record(seed=0.5), "seed: expected an int, got 0.5"),
        (lambda: record(metric=[1]), r"metrics\['m'\]: expected a scalar"),
        (
            lambda: record(settings={"lr": np.inf}),
            r"settings\['lr'\]: expected what JSON can hold",
        ),
        (
            lambda: record(settings={"f": pathlib.Path()}),
            r"settings\['f'\]: expected what JSON can hold; got PosixPath",
        ),
        (lambda: hw.sweeps.append("/nowhere", {"m": 1}), "records: expected those of"),
    ],
)
def test_misuse_is_named(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


def test_identity_is_of_weights_seed_and_settings_at_full_precision():
    def name(weights, seed=0, settings=None, **others):
        trial = {"weights": weights, "seed": seed, "settings": settings} | others
        return hw.sweeps.identity(trial)

    one = name({"a": 0.1234561, "b": 1.0}, 0, {"lr": 0.1, "steps": 5})
    assert one == name({"b": 1, "a": 0.1234561}, 0, {"steps": 5.0, "lr": 0.1}, m=3)
    others = [
        name({"a": 0.1234564, "b": 1.0}, 0, {"lr": 0.1, "steps": 5}),
        name({"a": 0.1234561, "b": 1.0}, 1, {"lr": 0.1, "steps": 5}),
        name({"a": 0.1234561, "b": 1.0}, 0, {"lr": 0.1 + 2**-56, "steps": 5}),
        name({"a": 0.1234561, "b": 1.0}, 0, {"lr": 0.1}),
        name({"a": 0.1234561, "b": 1.0}, 0),
    ]
    assert len({one, *others}) == 6
    assert name({}, 2**53) != name({}, 2**53 + 1)
    made = record(np.float32(0.1), settings={"lr": jnp.float32(0.1), "n": (1, 2)})
    same = name({"a": np.float32(0.1)}, 0, {"lr": np.float32(0.1), "n": [1, 2]})
    assert hw.sweeps.identity(made) == same
    older = {"weights": {"a": 1.0}, "seed": 0}
    assert hw.sweeps.identity(older) == hw.sweeps.identity(record())


def test_made_with_says_what_ran(monkeypatch):
    for name in _engine.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    made = hw.sweeps.made_with()
    assert made["versions"]["jax"] == jax.__version__
    assert made["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert made["device"] == {
        "backend": "cpu",
        "kind": jax.devices()[0].device_kind,
        "count": jax.device_count(),
    }
    assert made["time"].endswith("+00:00")
    assert made["host"] == os.uname().nodename
    assert made["engine"] is None
    assert json.loads(json.dumps(made)) == made
    assert hw.sweeps.made_with(device=False)["device"] is None
    job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert hw.sweeps.made_with()["engine"] == job


def test_older_records_are_completed(tmp_path):
    old = {"weights": {"a": 1.0}, "seed": 0, "finite": True, "metrics": {"m": 1.0}}
    (tmp_path / "trials.jsonl").write_text(json.dumps(old | {"note": "mine"}) + "\n")
    (found,) = hw.sweeps.read(tmp_path)
    expected = {"settings": {}, "made_with": {}, "note": "mine"}
    expected |= dict.fromkeys(("stopped", "error", "seconds", "mode"))
    assert found == old | expected


def test_lines_that_are_no_records_are_named_and_stay(tmp_path):
    path = tmp_path / "trials.jsonl"
    hw.sweeps.append(path, record(seed=0))
    strange = '[1, 2]\n{"weights": 3}\n\n{"weights": {"a"'
    path.write_text(path.read_text() + strange)
    before = path.read_bytes()
    hw.sweeps.append(path, record(seed=1), record(seed=2))
    assert path.read_bytes().startswith(before + b"\n")
    with pytest.warns(UserWarning, match=r"trials.jsonl: lines 2, 3, 5 skipped"):
        assert [found["seed"] for found in hw.sweeps.read(path)] == [0, 1, 2]


def test_the_last_record_of_a_trial_counts(tmp_path):
    hw.sweeps.append(tmp_path, record(seed=0, error="lost"), record(seed=1))
    hw.sweeps.append(tmp_path, record(seed=0))
    assert hw.sweeps.read(tmp_path) == [record(seed=0), record(seed=1)]


APPENDS = """
import sys
import headwise as hw
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
made = hw.sweeps.made_with(device=False)
# Long enough that a write is many pages, which a kill can tear.
metrics = {f"m{i}": i / 3 for i in range(10_000)}
for seed in range(count):
    record = hw.sweeps.record(
        {"a": 1.0}, seed, metrics, settings={"by": name}, made_with=made
    )
    hw.sweeps.append(folder, record)
    print(seed, flush=True)
"""


def appending(folder, name, count):
    """A process that appends records and says which are done."""
    return subprocess.Popen(
        [sys.executable, "-c", APPENDS, str(folder), name, str(count)],
        stdout=subprocess.PIPE,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": "research"},
        text=True,
    )


@pytest.mark.filterwarnings("ignore:.*skipped:UserWarning")
def test_three_processes_of_which_two_are_killed_lose_no_record(tmp_path):
    counts = {"killed first": 10**9, "killed later": 10**9, "ends": 10}
    processes = {n: appending(tmp_path, n, count) for n, count in counts.items()}
    done = {}
    with contextlib.ExitStack() as stack:
        for process in processes.values():
            stack.enter_context(process)
            stack.callback(process.kill)
        for process in processes.values():
            assert process.stdout.readline() == "0\n"  # all are at it
        for name, process in processes.items():
            time.sleep(0.1)
            if name != "ends":
                process.kill()
            done[name] = 1 + process.stdout.read().count("\n")
    hw.sweeps.append(tmp_path, record(settings={"by": "after"}))
    seeds = {name: [] for name in (*processes, "after")}
    for one in hw.sweeps.read(tmp_path):
        seeds[one["settings"]["by"]].append(one["seed"])
    assert seeds.pop("after") == [0]
    assert seeds["ends"] == list(range(10))
    for name, each in seeds.items():
        # One more may have been written that was not said any more.
        assert each == list(range(len(each)))
        assert len(each) - done[name] in (0, 1), name


FILLS_THE_DISK = """
import resource, sys
import headwise as hw
record = hw.sweeps.record({"a": 1.0}, 7, {f"m{i}": i / 3 for i in range(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
try:
    hw.sweeps.append(sys.argv[1], record)
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_costs_no_other_record(tmp_path):
    hw.sweeps.append(tmp_path, record(seed=0))
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(tmp_path)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": "research"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bytes written: disk full?" in done.stdout
    hw.sweeps.append(tmp_path, record(seed=1))
    with pytest.warns(UserWarning, match="trials.jsonl: line 2 skipped"):
        assert hw.sweeps.read(tmp_path) == [record(seed=0), record(seed=1)]
