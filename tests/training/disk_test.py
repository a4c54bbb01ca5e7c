"""Processes that are killed, full disks, damaged files: one line, and nothing lost."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def faults(folder):
    """What came of every small fit of `_disk_faults`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training._disk_faults", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "research:."},
        stdout=subprocess.PIPE,
        timeout=900,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def events(workdir):
    """{tag: [(step, value)]} as TensorBoard shows them."""
    from tensorboard.backend.event_processing import event_accumulator

    found = event_accumulator.EventAccumulator(str(workdir / "tensorboard"))
    found.Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}


def test_a_chain_of_kills_ends_as_if_there_had_been_none(faults, folder):
    assert faults["killed"]["kills"] == 6
    assert faults["killed"]["end"] == faults["whole"]
    texts = [(folder / n / "metrics.jsonl").read_bytes() for n in ("whole", "killed")]
    assert texts[0] == texts[1]


def test_a_scheduler_that_ends_a_run_loses_no_step(faults):
    """The signal ends the process, as it would have, once what is done is saved."""
    found = faults["terminated"]
    assert found["ends"] == -signal.SIGTERM
    assert found["saved"] >= 8  # a batch may be read ahead of its step
    assert found["end"] == faults["whole"]


@pytest.mark.parametrize("name", ["whole", "killed"])
def test_events_hold_every_record_once(name, faults, folder):
    records = hw.training.read_metrics(folder / name)
    assert [record["step"] for record in records] == list(range(2, 26, 2))
    found = events(folder / name)
    for tag in ("values/a", "values/b", "weights/a", "grad_norm"):
        parts = tag.split("/")
        expected = []
        for record in records:
            value = record
            for part in parts:
                value = value[part]
            expected.append((record["step"], pytest.approx(value, rel=1e-6)))
        assert found[tag] == expected


@pytest.mark.parametrize("name", ["limited 300", "limited 1500", "filled"])
def test_a_full_disk_ends_a_run_within_a_step_in_one_line(name, faults, folder):
    if (found := faults[name]) is None:
        pytest.skip("no file system may be mounted here")
    reason = "No space left on device" if name == "filled" else "File too large"
    assert found["full"].startswith(f"OSError: {folder / name.replace(' ', '_')}/")
    assert found["full"].endswith((reason, "disk full?"))
    assert found["full"].count("\n") == 0
    assert found.get("steps", [])[5:] == []  # full from step 9 on: no record after 10
    assert found["end"] == faults["whole"]


def test_one_process_at_a_time(faults, folder):
    found = faults["in_use"]
    text = f"workdir {folder / 'in_use'}: is in use (process {found['pid']})"
    assert found["second"] == f"WorkdirError: {text}"
    assert found["claim"] == str(folder / "in_use/new")  # its own folder
    assert found["end"] == faults["whole"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("removed", "No such file or directory"),
        # The folder may go while one is written.
        ("replaced", r"checkpoints/\d+: (Not a directory|No such file or directory)"),
    ],
)
def test_a_folder_that_is_lost_while_running(name, words, faults, folder):
    assert faults[name].startswith(f"OSError: {folder / name}")
    assert re.search(words, faults[name])
    assert faults[name].count("\n") == 0


def told(caplog):
    """What our own logger said; orbax says much more."""
    return [r.getMessage() for r in caplog.records if r.name == "headwise"]


# Damaged files.

STATE = {"w": jnp.arange(300.0), "b": jnp.ones(3, jnp.bfloat16), "n": jnp.int32(3)}


def save(folder, *steps, note=None):
    with hw.training.Checkpoints(folder) as checkpoints:
        for step in steps:
            state = STATE | {"n": jnp.int32(step)}
            checkpoints.save(step, state, note or {"at": step})


def newest(folder):
    """Step, note and state that are found."""
    with hw.training.Checkpoints(folder) as checkpoints:
        state = checkpoints.restore(STATE)
        return checkpoints.latest, checkpoints.note, state


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("of") / "checkpoints"
    save(folder, 1, 2)
    return folder


def test_no_flipped_bit_is_taken_for_a_number(two_checkpoints, tmp_path, caplog):
    """Bits of every file: the step, its note and its arrays are whole, or older."""
    draw = random.Random(0)
    paths = [path for path in (two_checkpoints / "2").rglob("*") if path.is_file()]
    paths = [path.relative_to(two_checkpoints) for path in sorted(paths)]
    fallen = 0
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    for path in paths * 6:
        data = bytearray((two_checkpoints / path).read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (folder / path).write_bytes(data)
        step, note, state = newest(folder)
        assert note == {"at": step}
        assert int(state["n"]) == step
        np.testing.assert_array_equal(state["w"], STATE["w"])
        np.testing.assert_array_equal(state["b"], STATE["b"])
        fallen += step == 1
        shutil.rmtree(folder)
        shutil.copytree(two_checkpoints, folder)
    assert fallen >= 5 * (len(paths) - 2)  # orbax reads not all that it writes


def lose(folder):
    next((folder / "2").rglob("manifest.ocdbt")).unlink()


def halve(folder):
    for path in (folder / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder):
    shutil.rmtree(folder / "2")
    (folder / "2").mkdir()


def unsealed(folder):
    """As a version without sums has left it."""
    (folder / "2/sums.json").unlink()
    (folder / "2/_CHECKPOINT_METADATA").write_text("{")


def unknown(folder):
    (folder / "99999").mkdir()
    (folder / "77777").write_text("")


@pytest.mark.parametrize("damage", [lose, halve, empty, unsealed, unknown])
def test_a_damaged_checkpoint_is_passed_over_and_moved_aside(
    damage, two_checkpoints, tmp_path, caplog
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    damage(folder)
    bad, good = ("99999", 2) if damage is unknown else ("2", 1)
    assert newest(folder)[:2] == (good, {"at": good})
    (message,) = told(caplog)
    assert message.startswith(f"{folder / bad}: is damaged (")
    assert message.endswith(") and passed over")
    assert len(message) < 400
    # It counts no more among the newest two, and is not lost.
    with hw.training.Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == good
        for step in (good + 1, good + 2):
            checkpoints.save(step, STATE)
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert names == {f"{bad}.damaged", str(good + 1), str(good + 2)}


def test_where_no_checkpoint_is_whole_nothing_begins_anew(two_checkpoints, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_checkpoints, folder)
    for step in "12":
        shutil.rmtree(folder / step / "state")
    with (
        hw.training.Checkpoints(folder) as checkpoints,
        pytest.raises(hw.training.WorkdirError) as error,
    ):
        checkpoints.latest  # noqa: B018
    assert str(error.value).startswith(f"{folder / '2'}: is damaged (")
    assert "no older checkpoint is whole" in str(error.value)


@pytest.mark.parametrize("name", ["exp[1]", "run [a-z]", "x*y", "{a}?"])
def test_paths_that_a_pattern_reads_otherwise(name, tmp_path):
    for part in (tmp_path / name / "deep", tmp_path / f"{name}2"):
        save(part, 1, 2)
        step, note, state = newest(part)
        assert (step, note) == (2, {"at": 2})
        np.testing.assert_array_equal(state["w"], STATE["w"])


def test_paths_and_checkpoints_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(hw.training.WorkdirError, match="a path without backslash"):
        save(tmp_path / "a\\b", 1)
    save(tmp_path, 1, 2)

    def load(*_):
        raise ValueError("x" * 1000)

    with hw.training.Checkpoints(tmp_path) as checkpoints:
        checkpoints._checkpointer.load = load
        with pytest.raises(hw.training.WorkdirError) as error:
            checkpoints.restore(STATE)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / '2'}: is damaged, or of another state (Value")
    assert text.endswith("remove it to go on from step 1, or give another folder")
    assert len(text) < 600


# Metrics.


def fit(workdir, steps=4):
    optimizer, balancer = optax.sgd(0.1), hw.balancers.equal()
    state = hw.training.init_state(["a"], {"p": jnp.ones(())}, optimizer, balancer)
    return hw.training.fit(
        hw.training.make_step(lambda p, batch: {"a": p["p"] ** 2}, optimizer, balancer),
        state,
        lambda t: 0.0,
        steps,
        workdir=workdir,
        log_every=1,
        checkpoint_every=2,
        check=False,
        progress=False,
    )[1]


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("of") / "four"
    fit(folder)
    return folder


BAD_LINES = {
    "first byte": lambda lines: [b"x" + lines[0][1:], *lines[1:]],
    "not UTF-8": lambda lines: [*lines[:2], b'{"step": "\xff"}', *lines[2:]],
    "a number": lambda lines: [b"5", *lines],
    "a list": lambda lines: [*lines, b"[]"],
    "no step": lambda lines: [lines[0], b'{"values": {}}', *lines[1:]],
    "step true": lambda lines: [lines[0], b'{"step": true}', *lines[1:]],
    "too deep": lambda lines: [b"[" * 100_000, *lines],
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_line_that_is_no_record_is_kept_aside(what, four_steps, tmp_path, caplog):
    workdir = tmp_path / "run"
    shutil.copytree(four_steps, workdir)
    path = workdir / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    changed = BAD_LINES[what](lines)
    path.write_bytes(b"\n".join(changed) + b"\n")
    history = fit(workdir, 6)
    kept = [line for line in changed if line in lines]
    assert path.read_bytes().splitlines()[:-2] == kept
    assert history == hw.training.read_metrics(workdir)
    assert [r["step"] for r in history[-4:]] == [3, 4, 5, 6]
    bad = [line for line in changed if line not in lines]
    aside = workdir / "metrics.jsonl.damaged"
    assert aside.read_bytes().splitlines() == bad
    number = changed.index(bad[0]) + 1
    (message,) = told(caplog)
    assert message == f"{path}: line {number}: no records, moved to {aside}"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\n\n"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text + text,
    ],
    ids=["BOM", "empty lines", "Windows", "doubled"],
)
def test_all_records_are_read_once(change, four_steps, tmp_path, caplog):
    workdir = tmp_path / "run"
    shutil.copytree(four_steps, workdir)
    path = workdir / "metrics.jsonl"
    path.write_bytes(change(path.read_bytes()))
    assert [r["step"] for r in hw.training.read_metrics(workdir)] == [1, 2, 3, 4]
    assert [r["step"] for r in fit(workdir, 6)] == [1, 2, 3, 4, 5, 6]
    assert len(path.read_bytes().split()) >= 6
    assert told(caplog) == []


def test_records_that_are_missing_are_told(four_steps, tmp_path, caplog):
    workdir = tmp_path / "run"
    shutil.copytree(four_steps, workdir)
    path = workdir / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    assert [r["step"] for r in fit(workdir, 6)] == [1, 2, 3, 5, 6]
    end = "records after step 3 are missing: the checkpoint is of step 4"
    assert told(caplog) == [f"{path}: {end}"]
    path.unlink()
    assert [r["step"] for r in fit(workdir, 7)] == [7]
    assert "records after step 0 are missing" in told(caplog)[-1]


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "metrics.jsonl"])
def test_what_stands_in_the_way_is_named_at_once(name, tmp_path):
    if name == "metrics.jsonl":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("mine")
    start = time.monotonic()
    with pytest.raises(
        hw.training.WorkdirError, match=f"{name}: expected a f.*move it"
    ):
        fit(tmp_path)
    assert time.monotonic() - start < 60


def test_threads_wait_for_no_one(tmp_path):
    """Another thread is refused, the same one is not, and the end lets go."""
    hold, said = hw.training.hold_workdir, []

    def ask():
        try:
            with hold(tmp_path):
                said.append("in")
        except hw.training.WorkdirError as error:
            said.append(str(error))

    with hold(tmp_path), hold(tmp_path / "." / ""):
        fit(tmp_path / "run", 1)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        hw.training.claim_workdir(tmp_path / "claimed", {})
    ask()
    text = f"workdir {tmp_path}: is in use (another thread of this process)"
    assert said == [text, "in"]
    assert (tmp_path / ".lock").read_text().split()[0] == str(os.getpid())
