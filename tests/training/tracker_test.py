"""Records that go to MLflow and Weights & Biases, without a network; failures."""

import importlib
import json
import struct
import warnings

import jax.numpy as jnp
import optax
import pytest

import headwise as hw

HEADS = ("a/b", "ü ~")
SETTINGS = {"lr": 0.1, "net": {"width": 3, "kind": "mlp"}}
STEP = hw.training.make_step(
    lambda p, b: {n: (p["w"] - i) ** 2 * b for i, n in enumerate(HEADS)},
    optax.sgd(0.1),
    contributions=True,
)


def fit(workdir, track, steps=8, killed=None):
    def batches(t):
        if t == killed:
            raise KeyboardInterrupt
        return jnp.float32(1.0)

    state = hw.training.init_state(HEADS, {"w": 1.0}, optax.sgd(0.1))
    options = {"log_every": 2, "checkpoint_every": 4, "progress": False, "chunk": 1}
    options |= {"validate": lambda p, rest: {"x": p["w"]}, "settings": SETTINGS}
    return hw.training.fit(
        STEP, state, batches, steps, workdir=workdir, track=track, **options
    )[1]


def numbers(history):
    """{path: {step: number}}, said anew of nested records."""
    found = {}

    def add(path, x, step):
        if isinstance(x, dict):
            for name, inner in x.items():
                add((*path, name), inner, step)
        elif isinstance(x, float | int):
            found.setdefault(path, {})[step] = x

    for record in history:
        for name, x in record.items():
            if name != "step":
                add((name,), x, record["step"])
    return found


def interrupted(workdir, track):
    """A run that is killed after two records, with one checkpoint, and goes on."""
    with pytest.raises(KeyboardInterrupt):
        fit(workdir, track, killed=7)
    return fit(workdir, track)


def sign(c):
    """A letter of a name as MLflow takes it: "a/b" is "a:2Fb"."""
    plain = c.isascii() and (c.isalnum() or c in "_-. ")
    return c if plain else "".join(f":{byte:02X}" for byte in c.encode())


def test_mlflow_has_the_records_of_a_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # What they say of each other is not ours; it ends with the test.
    warnings.filterwarnings("ignore", module="mlflow|sqlalchemy|alembic")
    mlflow = pytest.importorskip("mlflow", reason="[mlflow] is not installed")
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    track = hw.training.mlflow_tracker(uri, experiment="heads", tags={"by": "me"})
    workdir = tmp_path / "mine"
    history = interrupted(workdir, track)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("heads")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == json.loads((workdir / "mlflow.json").read_text())["run"]
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params == {"lr": "0.1", "net/width": "3", "net/kind": "mlp"}
    assert run.data.tags["by"] == "me"
    want = numbers(history)
    assert {("values", "a/b"), ("weights", "ü ~"), ("validation", "x")} <= set(want)
    assert any(path[0] == "contributions" for path in want)
    assert len(run.data.metrics) == len(want)
    for path, points in want.items():
        name = "/".join("".join(map(sign, part)) for part in path)
        got = [
            (m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)
        ]
        assert got == sorted(points.items())


def test_wandb_has_the_records_of_a_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    pytest.importorskip("wandb", reason="[wandb] is not installed")
    track = hw.training.wandb_tracker(mode="offline", project="heads")
    history = interrupted(tmp_path, track)
    runs, rows, config = set(), {}, {}
    for file in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(file):
            if record.WhichOneof("record_type") == "run":
                runs.add((record.run.run_id, record.run.project))
                config |= {
                    c.key: json.loads(c.value_json) for c in record.run.config.update
                }
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                step = record.history.step.num
                rows.setdefault(name, []).append((step, json.loads(item.value_json)))
    id_ = json.loads((tmp_path / "wandb.json").read_text())["run"]
    assert runs == {(id_, "heads")}
    assert {"lr": 0.1, "net/width": 3, "net/kind": "mlp"}.items() <= config.items()
    for path, points in numbers(history).items():
        name = "/".join(part.replace("a/b", "a%2Fb") for part in path)
        assert rows[name] == sorted(points.items())


def wandb_records(path):
    """What a file of wandb's holds: a log in LevelDB's format, after seven bytes.

    Blocks of 32 KiB; of each piece a checksum, its length, and whether it is whole (1),
    the first (2) or a middle one (3) of a record, or the last (4).
    """
    kinds = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            record = kinds.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def test_a_tracker_that_fails_ends_the_run_in_one_line(tmp_path):
    closed, seen = [], []

    def broken(workdir, step, settings):
        def write(at, row):
            seen.append(at)
            if at == 4:
                raise RuntimeError("no\nroute to host")

        return hw.training.Tracker(write, closed.append)

    def other(workdir, step, settings):
        assert settings == {"lr": 0.1, "net/width": 3, "net/kind": "mlp"}
        return hw.training.Tracker(lambda *row: None, closed.append)

    with pytest.raises(OSError, match=r"^track: broken: no route to host$"):
        fit(tmp_path, [other, broken])
    assert (seen, closed) == ([2, 4], ["failed", "failed"])
    assert len(hw.training.read_metrics(tmp_path)) == 2
    assert len(fit(tmp_path, other)) == 4  # the same run goes on
    assert closed[2:] == ["finished"]


def test_what_opens_no_tracker_closes_those_that_are_open(tmp_path):
    closed = []

    def opens(workdir, step, settings):
        return hw.training.Tracker(lambda *row: None, closed.append)

    def refuses(workdir, step, settings):
        raise ConnectionError("refused")

    with pytest.raises(OSError, match="track: refuses: refused"):
        fit(tmp_path, [opens, refuses])
    assert closed == ["failed"]


@pytest.mark.parametrize(
    ("workdir", "track", "kind", "text"),
    [
        (
            True,
            "mlflow",
            TypeError,
            r"track: expected mlflow_tracker\(\).*got 'mlflow'",
        ),
        (None, lambda *parts: None, ValueError, "track: expected a workdir too"),
    ],
)
def test_what_cannot_track_is_told_first(tmp_path, workdir, track, kind, text):
    with pytest.raises(kind, match=text):
        fit(tmp_path if workdir else None, track)


def test_a_note_that_is_damaged_is_named(tmp_path):
    from headwise.training import _tracker

    (tmp_path / "mlflow.json").write_text("{")
    with pytest.raises(OSError, match=r"mlflow\.json is damaged"):
        _tracker.note(tmp_path / "mlflow.json")
