"""What a run writes beside its records: a table, events with hyperparameters."""

import csv
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboard.backend.event_processing import event_accumulator

import headwise as hw
from headwise import _columns
from headwise.training import _metrics

pytestmark = pytest.mark.optimized

HEADS = ("a/b", "a", "é ,\n")
STEP = hw.training.make_step(
    lambda p, b: {name: (p["w"] - i) ** 2 * b for i, name in enumerate(HEADS)},
    optax.sgd(0.1),
)
JITTED = jax.jit(STEP, donate_argnums=0)


def fit(workdir, steps, killed=None, **options):
    def batches(t):
        if t == killed:
            raise RuntimeError("killed")
        return jnp.float32(1.0)

    state = hw.training.init_state(HEADS, {"w": 1.0}, optax.sgd(0.1))
    options = dict(log_every=2, checkpoint_every=4, progress=False) | options
    return hw.training.fit(JITTED, state, batches, steps, workdir=workdir, **options)[1]


def validate(params, rest):
    return {"b": {"c": params["w"]}, "none": jnp.nan}


def table(path):
    """The rows, as dicts of text."""
    with (path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def events(workdir):
    found = event_accumulator.EventAccumulator(str(workdir / "tensorboard"))
    found.Reload()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = {"lr": 0.1, "net": {"width": 3, "kind": "mlp"}, "on": True, "x": [1, 2]}
    options = {"validate": validate, "validate_every": 3, "settings": settings}
    return folder, fit(folder, 8, **options), options


def test_the_table_holds_every_number_of_the_records(run):
    folder, history, _ = run
    rows = table(folder)
    assert [int(row["step"]) for row in rows] == [r["step"] for r in history]
    assert list(rows[0])[:3] == ["step", "values/a", "values/a%2Fb"]
    for row, record in zip(rows, history, strict=True):
        values = record.get("values", {})
        for name in HEADS:
            column = f"values/{name}".replace("a/b", "a%2Fb").replace("\n", "\\n")
            text = row[column]
            assert text == (repr(values[name]) if values else "")
        inner = record.get("validation", {}).get("b")
        assert row["validation/b/c"] == ("" if inner is None else repr(inner["c"]))
        assert row["validation/none"] == ""
    # Spreadsheets and NumPy read it.
    data = np.genfromtxt(
        folder / "metrics.csv", delimiter=",", skip_header=1, encoding="utf-8"
    )
    assert data.shape == (len(history), len(rows[0]))
    assert data[0, 0] == 2


def test_the_table_of_an_interrupted_run_is_that_of_a_whole_one(run, tmp_path):
    whole, history, options = run
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, 8, killed=7, **options)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "17,1.0\n5,")  # after the checkpoint, and torn
    assert fit(tmp_path, 8, **options)[-1] == history[-1]
    steps = [int(row["step"]) for row in table(tmp_path)]
    assert steps == sorted(set(steps))
    path.unlink()  # a folder of an older version has none
    fit(tmp_path, 8, **options)
    assert path.read_bytes() == (whole / "metrics.csv").read_bytes()
    assert hw.training.read_metrics(tmp_path) == [
        json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()
    ]


def test_a_table_that_is_in_the_way_is_named(tmp_path):
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(hw.training.WorkdirError, match=r"metrics.csv: expected a file"):
        fit(tmp_path, 2)


def test_a_record_costs_little(tmp_path):
    """Of a table alone: about 10 µs; nothing waits for the disk."""
    (tmp_path / "new").mkdir()
    record = {"values": dict.fromkeys(HEADS, 0.5), "weights": dict.fromkeys(HEADS, 1.0)}
    with _metrics.MetricsWriter(tmp_path / "new", 0) as writer:
        writer._events.close(True)
        writer._events = None
        seconds = []
        for step in range(1, 301):
            start = time.perf_counter()
            writer._table.write({"step": step} | record)
            seconds.append(time.perf_counter() - start)
    assert len(table(tmp_path / "new")) == 300
    assert np.median(seconds) < 5e-4  # loose: other tests run beside


def test_tags_are_as_many_as_numbers(run):
    folder, history, _ = run
    found = events(folder)
    tags = found.Tags()["scalars"]
    assert {"values/a", "values/a%2Fb", "values/é ,\\n", "validation/b/c"} <= set(tags)
    for tag, name in (("values/a%2Fb", "a/b"), ("values/é ,\\n", "é ,\n")):
        seen = {event.step: event.value for event in found.Scalars(tag)}
        right = {r["step"]: r["values"][name] for r in history if "values" in r}
        assert seen == pytest.approx(right)


def test_no_two_entries_share_a_column():
    record = {"a": {"b/c": 1, "b": {"c": 2}}, "a/b": {"c": 3}, "a%2Fb": {"c": 4}}
    names = [name for name, _ in _columns.flat(record)]
    assert len(set(names)) == 4
    modules = {"contributions": {"trunk/0": {"a/b": {"norm": 1.0}}}}
    assert _columns.flat(modules) == [("contributions/trunk/0/a%2Fb/norm", 1.0)]


def test_settings_are_hyperparameters(run):
    """As TensorBoard's own plugin reads them; a run that is done says so."""
    from tensorboard.plugins.hparams import metadata

    folder, _, _ = run
    found = events(folder)
    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    parsed = metadata.parse_session_start_info_plugin_data(content)
    values = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in parsed.hparams.items()
    }
    assert values == {
        "lr": 0.1,
        "net/width": 3.0,
        "net/kind": "mlp",
        "on": True,
        "x": "[1, 2]",
    }
    content = found.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    assert metadata.parse_session_end_info_plugin_data(content).status == 1  # success
    assert metadata.EXPERIMENT_TAG not in found.summary_metadata
