"""One training over two processes: the numbers of one, one writes, one end for all."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

import headwise as hw
from tests.training import _hosts

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]

# Sums of up to 256 products in another order err by 256 roundings of 2**-24 at most,
# Adam moves by the rate times a gradient over its size, and a parameter is rounded in
# each step: times 12 steps, the most that are taken here.
STEPS, RATE = 12, 0.01
ATOL = STEPS * (RATE * 256 + 1) * 2.0**-24
REST = "bilevel", "adjusted", "outputs"


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def pair(folder, *scenes):
    """Two processes: what both have found, and what each has printed beside it."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=1")
    env = os.environ | {"PORT": str(free_port()), "NPROC": "8", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.training._hosts", str(folder), *scenes]
    with contextlib.ExitStack() as stack:
        started = []
        for rank in range(2):
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env | {"RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        texts = [process.communicate(timeout=900) for process in started]
    assert [process.returncode for process in started] == [0, 0], texts
    outs = [out.partition("\nFOUND ") for out, _ in texts]
    found = [json.loads(text) for *_, text in outs]
    assert found[0] == found[1]
    return found[0], [out for out, *_ in outs], [err for _, err in texts]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Two processes, then this one alone, then two again, in one folder."""
    folder = tmp_path_factory.mktemp("hosts")
    scenes = "train", *REST, "broken", "refused", "keeps", "signalled", "command"
    first, printed, told = pair(folder, *scenes)
    alone = as_json(_hosts.keeps(folder))
    second, *_ = pair(folder, "keeps", "signalled")
    return {
        "folder": folder,
        "first": first,
        "alone": alone,
        "second": second,
        "printed": printed,
        "told": told,
    }


def as_json(found):
    return json.loads(json.dumps(found))


def assert_close(got, want):
    """Numbers but for rounding, all else exactly."""
    if isinstance(want, dict):
        assert list(got) == list(want)
        for name in want:
            assert_close(got[name], want[name])
    elif isinstance(want, list) and any(isinstance(x, dict | list) for x in want):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert_close(a, b)
    elif isinstance(want, float | list):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=ATOL)
    else:
        assert got == want


def test_they_train_as_one(found):
    """Parameters, records, contributions of every kind of balancer; evaluation."""
    want = as_json(_hosts.train(None))
    assert {"gramian", "values", "gradients", "two batches", "made"} < set(want)
    assert_close(found["first"]["train"], want)


@pytest.mark.parametrize("scene", REST)
def test_the_rest_of_training_is_one_too(scene, found):
    """Bilevel steps, rates set by records, outputs."""
    assert_close(found["first"][scene], as_json(getattr(_hosts, scene)(None)))


def test_the_rest_of_training_is_right(found):
    _, history = found["first"]["adjusted"]
    rates = [record["hyperparams"]["learning_rate"] for record in history]
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.025], rtol=1e-6)
    broken = found["first"]["broken"]
    assert broken["step"] == 2
    assert broken["words"].startswith("step 2: ")
    wide = {n: np.float64(x) for n, x in (_hosts.PARAMS | _hosts.DATA).items()}
    want = np.tanh(wide["x"] @ wide["trunk"]) @ wide["a"]
    got, own = found["first"]["outputs"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert own


def test_a_run_goes_on_with_more_or_fewer_processes(found):
    """Four steps by two processes, two by one, two by two: as eight by one."""
    want = as_json(_hosts.keeps(None, 8))
    assert_close(found["second"]["keeps"], want)
    for got, steps in ((found["first"]["keeps"], 4), (found["alone"], 6)):
        assert [record["step"] for record in got[1]] == [*range(2, steps + 1, 2)]
    folder = found["folder"] / "kept"
    assert [r["step"] for r in hw.training.read_metrics(folder)] == [2, 4, 6, 8]
    assert len((folder / "metrics.csv").read_text().splitlines()) == 5
    assert sorted(x.name for x in (folder / "checkpoints").iterdir()) == ["6", "8"]


def test_a_signal_to_one_ends_both(found):
    """The same step is saved, and the run goes on as if nothing had been."""
    assert found["first"]["signalled"] == "interrupted"
    (line,) = (x for x in found["told"][0].splitlines() if "stopped by SIGTERM" in x)
    assert "after step " in line
    state, history = _hosts.fit(steps=12)
    assert_close(found["second"]["signalled"], as_json([_hosts.told(state), history]))


def test_what_one_may_not_do_ends_all_with_the_same_words(found):
    words = iter(found["first"]["refused"])
    for expected in (
        "WorkdirError: workdir .*other: holds files that are no run of Headwise",
        "WorkdirError: workdir .*mine: belongs to another run: seed was 0, is 1",
        r"ValueError: batch: expected parts of the same shapes .* got process 0: \(3, "
        r"4\); process 1: \(2, 4\)",
        "ValueError: file 0 is damaged",
        "ValueError: file 3 is damaged",
        "here",
        r"ValueError: batch_size: expected rows that 2 processes divide \(share\)",
        "OSError: .*full/metrics.jsonl: No such file or directory",
        "ValueError: state: expected parameters on the devices of all processes",
    ):
        assert re.match(expected, next(words))
    assert list(words) == []


def test_the_first_prints_and_a_command_runs(found):
    codes, metrics = found["first"]["command"]
    assert codes == [0, 0, 2]
    assert set(metrics) == {"a", "b"}
    first, second = found["printed"]
    assert "training 6/6" in first
    assert "has 1 records already" in first
    assert [x for x in second.splitlines() if x and "Gloo" not in x] == []
    for err in found["told"]:
        assert "--mesh: expected all 2 devices of 2 processes" in err
