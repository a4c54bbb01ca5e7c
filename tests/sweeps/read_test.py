"""What a study left: records in order, curves of a trial, how it stands, tables."""

import builtins
import csv
import json
import os
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._store import _curves
from headwise.sweeps._store import _done
from headwise.sweeps._store import _export
from headwise.sweeps._store import _store

TEXT = {"program": "p"}
MADE = {"versions": {"jax": "0"}, "host": "h"}


def record(weight=1.0, metric=0.5, **others):
    return hw.sweeps.record({"a": weight}, 0, {"m": metric}, made_with=MADE, **others)


def commit(folder, *records):
    with _store.open(folder, TEXT) as store:
        keys = [_done.key_of(record) for record in records]
        store.compose(len(store.cohorts()), {"trials": keys})
        return [store.commit(*pair) for pair in zip(keys, records, strict=True)]


def test_the_key_of_a_record_is_that_of_its_trial():
    trial = hw.sweeps.Trial({"a": 0.1}, 3, {"lr": 0.2})
    made = hw.sweeps.record({"a": 0.1}, 3, {}, settings={"lr": 0.2}, made_with=MADE)
    assert _done.key_of(made) == trial.key


def test_records_are_in_the_order_in_which_they_came(tmp_path):
    old, *new = [record(float(i)) for i in range(4)]
    hw.sweeps.append(tmp_path, old, new[1])
    better = record(2.0, 0.75)
    assert commit(tmp_path, new[2], better, new[0]) == ["new"] * 3
    expected = [old, better, new[2], new[0]]
    assert hw.sweeps.read(tmp_path) == expected
    # Lines are a projection: what is committed is there without them.
    (tmp_path / "trials.jsonl").unlink()
    assert hw.sweeps.read(tmp_path) == [new[2], better, new[0]]
    assert hw.sweeps.read(str(tmp_path)) == hw.sweeps.read(tmp_path)


def test_the_last_attempt_counts(tmp_path):
    broken, again = record(metric=float("nan")), record(metric=0.25)
    key = _done.key_of(broken)
    with _store.open(tmp_path, TEXT) as store:
        store.commit(f"{key}.10", record(metric=0.125))
        store.commit(f"{key}.2", again)
        store.commit(key, broken)
    assert hw.sweeps.read(tmp_path) == [record(metric=0.125)]


def test_what_cannot_be_read_is_named_in_one_warning(tmp_path):
    commit(tmp_path, *(record(float(i)) for i in range(4)))
    paths = sorted((tmp_path / "done").iterdir())
    lost = [json.loads(path.read_text())["weights"]["a"] for path in paths[:3]]
    paths[0].write_text("{")
    paths[1].write_text("{}")
    paths[2].unlink()
    paths[2].mkdir()
    (tmp_path / "trials.jsonl").unlink()
    (tmp_path / "cohorts/000000.json").write_text("")
    (tmp_path / "study.json").write_text("")
    with pytest.warns(UserWarning, match="left out") as caught:
        found = hw.sweeps.read(tmp_path)
    assert [r["weights"]["a"] for r in found] == [
        float(i) for i in range(4) if i not in lost
    ]
    (warning,) = caught
    assert all(str(path) in str(warning.message) for path in paths[:3])
    assert "is damaged" in str(warning.message)
    assert "is no record" in str(warning.message)
    assert "Is a directory" in str(warning.message)
    assert "\n" not in str(warning.message)


def test_what_a_kill_leaves_behind_is_no_matter(tmp_path):
    commit(tmp_path, record())
    (tmp_path / "done/.aa.json.host.7.0123456789abcdef").write_text('{"wei')
    (tmp_path / "done/._aa.json").write_bytes(b"what a Mac puts there")
    (tmp_path / "cohorts/.000001.json.host.7.0123").write_text("{")
    (tmp_path / "curves/000000").mkdir()
    (tmp_path / "curves/000000/.4.npz.host.7.0123").write_bytes(b"PK")
    with warnings.catch_warnings(action="error"):
        assert hw.sweeps.read(tmp_path) == [record()]
        assert hw.sweeps.curves(tmp_path, record()) == {}
        assert hw.sweeps.status(tmp_path)["unread"] == []


# Curves.


def chunk(first, rows, members=3):
    """Values that tell their step and member."""
    t = np.arange(first, first + rows)
    values = 100.0 * t[:, None] + np.arange(members)
    return {
        "t": t,
        "values": {"a": jnp.float32(values), "b/c": values},
        "gram": np.stack([values, -values], axis=-1),
        "half": jnp.ones((rows, members), jnp.bfloat16),
        "lr": t / 8,
    }


def test_the_curves_of_a_trial(tmp_path):
    records = [record(float(i)) for i in range(2)]  # the third member is padding
    keys = [_done.key_of(record) for record in records]
    with _store.open(tmp_path, TEXT) as store:
        store.compose(0, {"trials": keys})
        claim = store.claim(0)
        for first in (8, 0, 4):
            store.curves(claim, first, chunk(first, 4))
        store.curves(claim, 6, chunk(6, 1))  # trained again after a kill
        store.curves(claim, 100, chunk(100, 1) | {"t": np.array([-1])})  # no row
    found = hw.sweeps.curves(tmp_path, records[1])
    t = np.arange(12)
    np.testing.assert_array_equal(found["t"], t)
    assert set(found["values"]) == {"a", "b/c"}
    for name in ("a", "b/c"):
        np.testing.assert_array_equal(found["values"][name], 100 * t + 1)
    np.testing.assert_array_equal(
        found["gram"], np.stack([100 * t + 1, -100 * t - 1], axis=-1)
    )
    np.testing.assert_array_equal(found["half"], np.ones(12))
    np.testing.assert_array_equal(found["lr"], t / 8)
    assert hw.sweeps.curves(tmp_path, record(7.0)) == {}


def test_members_that_moved_and_have_steps_of_their_own(tmp_path):
    """As where the worst are stopped and others take their places."""
    records = [record(float(i)) for i in range(3)]
    keys = [_done.key_of(record) for record in records]
    with _store.open(tmp_path, TEXT) as store:
        store.compose(0, {"trials": keys})
        claim = store.claim(0)
        t, x = np.array([[0, 0], [1, 1]]), np.array([[1.0, 2.0], [3.0, 4.0]])
        store.curves(claim, 0, {"t": t, "x": x, "trials": np.array(keys[:2])})
        t, x = np.array([[2, 0], [-1, 1]]), np.array([[5.0, 6.0], [7.0, 8.0]])
        store.curves(claim, 2, {"t": t, "x": x, "trials": np.array(keys[1:])})
    for one, (t, x) in zip(
        records,
        [([0, 1], [1.0, 3.0]), ([0, 1, 2], [2.0, 4.0, 5.0]), ([0, 1], [6.0, 8.0])],
        strict=True,
    ):
        found = hw.sweeps.curves(tmp_path, one)
        np.testing.assert_array_equal(found["t"], t)
        np.testing.assert_array_equal(found["x"], x)


def test_the_order_of_chunks(tmp_path):
    """By steps, then by claims; those of older versions name none."""
    for i, (name, t) in enumerate(
        {
            "12": [11, 11],
            "4.1": [-1, 3],
            "4": [3, 3],
            "9.10": [8, 8],
            "9.9": [8, 8],
        }.items()
    ):
        chunk = {"t": np.array([t]), "x": np.full((1, 2), i)}
        _curves.write(tmp_path / f"{name}.npz", chunk)
    chunks = _curves.read(tmp_path)
    for trial, x in (("one", [2, 3, 0]), ("other", [1, 3, 0])):
        found = _curves.of_member(chunks, ["one", "other"], trial)
        np.testing.assert_array_equal(found["t"], [3, 8, 11])
        np.testing.assert_array_equal(found["x"], x)


def test_a_damaged_chunk_is_left_out(tmp_path, caplog):
    for first in (0, 4, 8):
        _curves.write(tmp_path / f"{first}.npz", chunk(first, 4))
    path = tmp_path / "4.npz"
    path.write_bytes(path.read_bytes()[:100])
    found = _curves.of_member(_curves.read(tmp_path), ["x", "y"], "y")
    np.testing.assert_array_equal(found["t"], [0, 1, 2, 3, 8, 9, 10, 11])
    (message,) = [r.getMessage() for r in caplog.records]
    assert message.startswith(f"{path}: cannot be read (")
    assert message.endswith("), left out")


# How it stands.


def test_how_a_study_stands(tmp_path):
    records = [record(float(i)) for i in range(2)]
    broken = record(2.0, float("nan"), stopped=7, error="a is not finite at step 7")
    keys = [_done.key_of(one) for one in (*records, broken)]
    with _store.open(tmp_path, TEXT, worker="w") as store:
        store.event("plan", words="3 trials, 2 cohorts")
        store.compose(0, {"trials": [keys[0], keys[2]], "mode": "vmap", "size": 2})
        store.compose(1, {"trials": [keys[1], "ff"], "mode": "scan"})
        store.compose(2, {"trials": ["ee"]})
        claim = store.claim(0)
        store.commit(keys[0], records[0])
        store.commit(keys[2], broken)
        store.finished(claim)
        store.claim(1).beat("compiling", step=3)
        store.event("frozen", trial="ff", head="a", step=4)
        found = hw.sweeps.status(tmp_path)
        (says,) = found["workers"][0]["says"].values()
        assert says == {"word": "compiling", "step": 3}
    assert found["text"] == TEXT
    assert (found["trials"], found["done"], found["broken"]) == (5, 2, 1)
    assert [c["state"] for c in found["cohorts"]] == ["done", "claimed", "open"]
    assert found["cohorts"][0] == {
        "number": 0,
        "keys": [keys[0], keys[2]],
        "done": 2,
        "state": "done",
        "worker": "w",
        "epoch": 0,
        "mode": "vmap",
        "size": 2,
    }
    (worker,) = found["workers"]
    assert (worker["worker"], worker["pid"], worker["alive"]) == (
        "w",
        os.getpid(),
        True,
    )
    by_trial = {one["trial"]: one for one in found["frozen"]}
    assert by_trial[keys[2]]["stopped"] == 7
    assert by_trial["ff"]["head"] == "a"
    assert found["plan"]["words"] == "3 trials, 2 cohorts"
    assert found["unread"] == []
    with _store.open(tmp_path, TEXT) as store:
        store.event("end", code=75)
    (tmp_path / "done" / f"{keys[0]}.json").write_text("{")
    found = hw.sweeps.status(tmp_path)
    assert [c["state"] for c in found["cohorts"]] == ["left", "left", "open"]
    (text,) = found["unread"]
    assert text.startswith(f"{tmp_path}/done/{keys[0]}.json: is damaged")


# Tables.


RECORDS = [
    hw.sweeps.record(
        {"a": 0.1, "b": 1 / 3},
        0,
        {"dice": {"liver": 0.5, "lesion": float("nan")}, "n": 2},
        settings={"lr": 0.003, "rates": [1, 2.5], "mixed": 1, "note": 'a,"b"'},
        made_with=MADE,
    ),
    hw.sweeps.record(
        {"a": 1.0},
        1,
        {"dice": {"liver": 0.25}},
        settings={"mixed": "x", "more": True},
        seconds=1.5,
        mode="vmap",
        made_with=MADE,
    ),
]
FIRST = {
    "weights.a": 0.1,
    "weights.b": 1 / 3,
    "seed": 0,
    "settings.lr": 0.003,
    "settings.rates": "[1, 2.5]",
    "settings.mixed": 1,
    "settings.note": 'a,"b"',
    "settings.more": None,
    "metrics.dice.liver": 0.5,
    "metrics.dice.lesion": None,
    "metrics.n": 2.0,
    "finite": False,
    "stopped": None,
    "error": "a metric is not finite",
    "seconds": None,
    "mode": None,
    "made_with.versions.jax": "0",
    "made_with.host": "h",
}


def test_columns_are_leaves():
    columns = _export.columns(RECORDS)
    assert {name: column[0] for name, column in columns.items()} == FIRST
    assert list(columns) == list(FIRST)
    assert columns["settings.more"] == [None, True]
    assert columns["weights.b"] == [1 / 3, None]
    assert _export.columns([]) == {}
    alike = [{"m": {"a": {"b": 1}, "a.b": 2, "c.d": 3}}]
    assert _export.columns(alike) == {"m.a.b": [1], "m.a%2Eb": [2], "m.c.d": [3]}


def test_a_csv_file_holds_all_digits(tmp_path):
    path = tmp_path / "study.csv"
    hw.sweeps.to_csv(RECORDS, path)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["weights.b"]) == 1 / 3
    assert first["settings.note"] == 'a,"b"'
    assert first["metrics.dice.lesion"] == first["stopped"] == second["weights.b"] == ""
    assert list(first) == list(FIRST)
    with pytest.raises(OSError, match=r"away/x\.csv: No such file or directory"):
        hw.sweeps.to_csv(RECORDS, tmp_path / "away/x.csv")


def test_a_data_frame_has_a_row_a_trial():
    frame = hw.sweeps.to_pandas(RECORDS)
    assert list(frame.columns) == list(FIRST)
    assert frame["seed"].tolist() == [0, 1]
    assert frame["weights.b"].isna().tolist() == [False, True]
    assert frame["metrics.dice.lesion"].isna().all()
    assert frame["metrics.dice.liver"].mean() == 0.375


def test_a_parquet_file_where_pyarrow_is_there(tmp_path):
    path = tmp_path / "study.parquet"
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="to_parquet needs pyarrow: pip"):
            hw.sweeps.to_parquet(RECORDS, path)
        return
    hw.sweeps.to_parquet(RECORDS, path)
    columns = parquet.read_table(path).to_pydict()
    assert columns.pop("settings.mixed") == ["1", "x"]  # one type a column
    expected = _export.columns(RECORDS)
    del expected["settings.mixed"]
    assert columns == expected


@pytest.mark.parametrize(
    ("name", "package"), [("to_pandas", "pandas"), ("to_parquet", "pyarrow")]
)
def test_an_extra_that_is_not_there_is_named(name, package, monkeypatch, tmp_path):
    real = builtins.__import__

    def without(wanted, *arguments):
        if wanted.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {wanted!r}")
        return real(wanted, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    arguments = () if name == "to_pandas" else (tmp_path / "x",)
    words = rf'{name} needs {package}: pip install "headwise\[tables\]"'
    with pytest.raises(ModuleNotFoundError, match=words):
        getattr(hw.sweeps, name)(RECORDS, *arguments)


def test_columns_of_one_type():
    one = _export._one_type
    assert one([1, None, 2.5]) == [1.0, None, 2.5]
    assert one([True, 1, None]) == ["True", "1", None]
    assert one([2**70, None]) == [str(2**70), None]
    assert one([1, 2]) == [1, 2]
