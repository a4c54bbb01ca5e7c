"""A real cluster of Ray, of two nodes on this machine, that loses one of them."""

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time

import pytest

import headwise as hw
from experiments.harness import command
from launch import launches
from launch import plan as places
from launch import ray as launcher
from launch import ray_task
from launch import ray_work
from launch.ray_task import Ended
from tests.launch import _commands
from tests.launch._commands import claims
from tests.launch._commands import until

ROOT, TINY = _commands.ROOT, _commands.TINY
# Ray's own token, so that none is looked for or written in the user's home.
ENVIRONMENT = (
    _commands.ENVIRONMENT
    | {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    | {
        "PATH": "/usr/bin:/bin",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
)


def begin(*words, module="launch.ray", environment=None, **options):
    environment = ENVIRONMENT | (environment or {})
    return _commands.begin(
        *words,
        module=module,
        environment=environment,
        **{"stdin": subprocess.PIPE} | options,
    )


class Cluster:
    """The process that holds a cluster."""

    def __init__(self, process):
        self.process, self.nodes = process, 2
        self.jobs = self._read("jobs")
        self.address = self._read("address ")

    def _read(self, start):
        for line in self.process.stdout:
            if line.startswith(start):
                return line.removeprefix(start).strip()
        raise AssertionError("the cluster ended")

    def lose(self):
        """Kills the second node, once."""
        if self.nodes == 2:
            self.nodes = 1
            print("lose", file=self.process.stdin, flush=True)
            self._read("done lose")


@pytest.fixture(scope="module")
def cluster():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra [ray] is not installed")
    with begin(module="tests.launch._ray_cluster") as process:
        try:
            yield Cluster(process)
            process.communicate("end\n", timeout=_commands.PATIENCE)
        finally:
            process.kill()


def workers_of(folder):
    """{process: its words} of the workers of a folder, not of who looks into it."""
    found = _commands.processes_of(folder, "launch.worker")
    return {pid: words for pid, words in found.items() if "--check" not in words}


def results(folder):
    """{trial: (what came out, the digests of its states)}."""
    return {
        hw.sweeps.identity(record): (record["metrics"], record["digests"])
        for record in hw.sweeps.read(folder)
    }


@pytest.mark.slow
def test_a_study_that_loses_a_node(cluster, tmp_path, commands):
    """Every trial once, and the bits of a run on this machine alone.

    No trial ends before the launcher has told of the loss.
    """
    study = [f"--experiment={_commands.HELD}", "--weights=a=1,b=0.1:0.5:1:2"]
    study += ["--size=1", "--mode=scan", f"--set=until={tmp_path / 'go'}"]
    here, there, said = tmp_path / "here", tmp_path / "there", tmp_path / "said"
    flags = [f"--folder={there}", f"--address={cluster.address}", "--working_dir=none"]
    flags.append("--cohorts=2")
    with said.open("w") as file:
        shared = begin(*study, *flags, stdout=file)
    commands.append(shared)
    until(lambda: len(claims(there)) == 2)  # a node each
    cluster.lose()
    until(lambda: "\nworker " in said.read_text() or shared.poll() is not None)
    (tmp_path / "go").touch()
    code, out = shared.wait(_commands.PATIENCE), said.read_text()
    assert code == 0, out
    assert "4 trials of 900 steps" in out
    assert "2 workers on 2 nodes" in out
    assert "4/4 trials" in out
    (lost,) = [line for line in out.splitlines() if line.startswith("worker ")]
    assert "node" in lost
    assert "Traceback" not in out
    _commands.alone(*study, f"--folder={here}")
    assert len(list((there / "done").iterdir())) == 4
    assert results(there) == results(here)
    assert (there / "front.png").stat().st_size > 100
    engines = [record["made_with"]["engine"] for record in hw.sweeps.read(there)]
    assert all(engine["RAY_NODE_ID"] for engine in engines)


@pytest.mark.slow
def test_the_ends_of_two_launchers(cluster, tmp_path, commands):
    """One is interrupted: it saves, and the other goes on; killed, it leaves no one.

    The code is sent, to one node: two of one machine unpack it at one place, which
    each first makes empty.
    """
    cluster.lose()  # there is room for one worker
    study = [f"--experiment={TINY}", "--weights=a=1,b=1", _commands.FOREVER]
    study += [f"--folder={tmp_path}", f"--address={cluster.address}", "--workers=1"]
    one = begin(*study)
    commands.append(one)
    (launch,) = until(lambda: list(tmp_path.glob("launches/*.json")))
    other = begin(*study)
    commands.append(other)
    until(lambda: _commands.trains(tmp_path))
    mine = f"--launch={launch.stem}"
    if not any(mine in words for words in workers_of(tmp_path).values()):
        one, other = other, one  # it was quicker
    one.send_signal(signal.SIGTERM)
    code, out = _commands.end(one)
    assert code == 75, out
    assert "interrupted by SIGTERM: the same command goes on" in out.splitlines()
    assert "Traceback" not in out
    assert (tmp_path / "claims/000000.0.left").exists()
    assert list(tmp_path.glob("ckpt/000000.0/*"))
    until(lambda: claims(tmp_path) == ["000000.0", "000000.1"])
    assert workers_of(tmp_path)
    other.kill()
    other.communicate()
    until(lambda: not workers_of(tmp_path))


@pytest.mark.slow
def test_a_job_that_is_submitted_twice_is_done_once(cluster, tmp_path, commands):
    if not cluster.jobs:
        pytest.skip("`ray job submit` wants ray[default], which is not installed")
    cluster.lose()
    sent = {"excludes": ["/docs", "/tests"], "env_vars": {"PYTHONPATH": "research"}}
    submit = [f"--address=http://{cluster.jobs}", f"--working-dir={ROOT}"]
    study = ["--weights=a=1,b=1", "--steps=100000", f"--folder={tmp_path}"]
    job = [sys.executable, "-m", "launch.ray", f"--experiment={TINY}", *study]
    words = [*submit, f"--runtime-env-json={json.dumps(sent)}", "--", *job]
    both = [
        begin("job", "submit", *words, module="ray.scripts.scripts") for _ in range(2)
    ]
    commands += both
    codes, said = zip(*map(_commands.end, both), strict=True)
    assert codes == (0, 0), said
    assert all(f"everything is in {tmp_path}/" in out for out in said)
    # One that begins when the other is done gives out nothing.
    assert any("1/1 trials" in out for out in said)
    assert len(list((tmp_path / "launches").glob("*.json"))) == 2
    events = [path.read_text() for path in tmp_path.glob("events/*")]
    assert sum(text.count('"kind": "done"') for text in events) == 1
    assert not any("duplicate" in text for text in events)


@pytest.mark.slow
def test_what_a_cluster_cannot_do_is_one_line(cluster, tmp_path, commands):
    """Nothing is submitted, and no launch signed."""
    held = os.open(tmp_path, os.O_DIRECTORY)  # a name that holds in one process alone
    hidden = f"--folder=/proc/self/fd/{held}/hidden"
    common = f"--experiment={TINY}", f"--address={cluster.address}"
    one, other = (f"--folder={tmp_path / name}" for name in ("one", "other"))
    started = [
        begin(*common, one, "--gpus=2"),
        begin(*common, one, environment={"RAY_AUTH_TOKEN": "ab" * 32}),
        begin(*common, other, "--gpus=1", "--working_dir=none"),
        begin(*common, hidden, "--working_dir=none", pass_fds=[held]),
    ]
    commands += started
    os.close(held)
    codes, said = zip(*map(_commands.end, started), strict=True)
    assert codes == (2, 2, 2, 2), said
    many, token, none, unseen = (out.splitlines() for out in said)
    assert many == [
        "error: one task asks for CPU=1, GPU=2; the node with the most of it has "
        "CPU=1, GPU=1: no worker would ever run"
    ]
    assert len(token) == 1
    assert "InvalidAuthToken" in token[0]
    assert not (tmp_path / "one").exists()
    host = os.uname().nodename
    assert none[-1].startswith(f"error: node {host} (")
    assert none[-1].endswith(f"JAX finds none on {host} (JAX_PLATFORMS=cuda)")
    assert unseen[-1].startswith(f"error: node {host} (")
    assert "does not see the launcher's folder" in unseen[-1]
    for name in ("other", "hidden"):
        assert list((tmp_path / name / "launches").iterdir()) == []
        assert not (tmp_path / name / "logs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address=head"], "--address: expected auto, HOST:PORT or ray://HOST:PORT"),
        (["--address=http://head:8265"], "--address: expected auto, HOST:PORT or"),
        (["--address=127.0.0.1:1"], "--address=127.0.0.1:1: no Ray is there ("),
        (["--address=ray://127.0.0.1:1"], "no Ray is there ("),
        (["--gpus=1.5"], "--gpus: expected a whole number, or a share of one, got 1.5"),
        (["--cpus=-1"], "--cpus: expected a whole number, or a share of one, got -1"),
        (["--cpus=nan"], "--cpus: expected a whole number, or a share of one, got nan"),
        (["--memory=much"], "--memory: expected a size as 500M or 16G, got much"),
        (["--resources=a100"], "--resources: expected NAME=VALUE,..., got 'a100'"),
        (["--resources=a=x"], "--resources: expected a number for 'a', got 'x'"),
        (["--resources=GPU=1"], "--resources: expected positive numbers of others"),
        (["--workers=0"], "--workers: expected 1 or more"),
        (
            ["--working_dir=/nowhere"],
            "--working_dir: expected a checkout, with launch/",
        ),
        (["--num_gpus=1"], "Unknown command line flag 'num_gpus'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder = tmp_path / "study"
    argv = ["ray", f"--experiment={TINY}", f"--folder={folder}", *words]
    start = time.monotonic()
    assert command.guarded(launcher.main, argv) == 2
    assert time.monotonic() - start < 60  # Ray itself tries for minutes
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_without_ray_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    argv = ["ray", f"--experiment={TINY}", f"--folder={tmp_path / 'study'}"]
    assert command.guarded(launcher.main, argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install -e '.[ray]'" in error
    assert not (tmp_path / "study").exists()
    code = command.guarded(
        launcher.main, [*argv, "--dry_run", "--gpus=1", "--workers=3"]
    )
    out = capsys.readouterr().out
    assert code == 0
    (line,) = [line for line in out.splitlines() if "launch.worker" in line]
    assert "JAX_PLATFORMS=cuda" in line
    assert "--workers=3 --devices=1 --cohorts=1" in line
    assert "CUDA_VISIBLE_DEVICES" not in out
    (sent,) = [line for line in out.splitlines() if line.startswith("# runtime_env")]
    assert json.loads(sent.removeprefix("# runtime_env"))["working_dir"] == str(ROOT)
    assert not (tmp_path / "study").exists()


@pytest.fixture
def given_out(tmp_path, monkeypatch):
    """`work` on tasks that end at once, as a function of their number says."""
    argv = ["ray", f"--experiment={TINY}", f"--folder={tmp_path}"]
    study = places.read(command.parse(argv, launches.define, ""))
    launch, submitted = launches.begin(study, "ray"), []

    def submit(number):
        submitted.append(number)
        return len(submitted)

    def work(workers, end):
        monkeypatch.setattr(ray_work.cluster, "end", end)
        return ray_work.work(launch, workers, submit), submitted

    monkeypatch.setattr(ray_work.cluster, "PERIOD", 0.0)
    monkeypatch.setattr(ray_work.cluster, "wait", lambda refs: refs)
    monkeypatch.setattr(ray_work.cluster, "cancel", lambda refs: None)
    monkeypatch.setattr(ray_work, "PAUSE", 0.0)
    return work


@pytest.mark.parametrize(
    ("codes", "progress", "given", "code"),
    [
        ([75, 75, 0], (), 3, 0),
        ([1], (), 3, 1),  # three in a row, then the launch ends
        ([1], (2,), 5, 1),  # the second one got further, so three more
        ([75], (1, 2), 5, 75),
        ([-9, 2], (), 2, 2),
    ],
)
def test_workers_that_lead_to_nothing_are_given_up(
    codes, progress, given, code, tmp_path, capsys, given_out
):
    """By tasks that end with these codes, the last one again and again."""

    def end(ref):
        if ref in progress:
            step = tmp_path / "ckpt/000000.0" / str(ref)
            step.mkdir(parents=True)
        return Ended(codes[min(ref, len(codes)) - 1], f"end {ref}", "host")

    assert given_out(1, end) == (code, [0] * given)
    told = [
        ref
        for ref in range(1, given + 1)
        if codes[min(ref, len(codes)) - 1] not in (0, 75)
    ]
    lines = [f"worker 0 on host: end {ref}" for ref in told]
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_is_lost_as_the_work_ends_is_told(lost, capsys, given_out):
    """Before the other one has done the rest, or after."""

    def end(ref):
        if ref == 1 + lost:
            return Ended(ray_task.LOST, "its node died", "")
        return Ended(0, "", "host")

    code, submitted = given_out(2, end)
    assert (code, submitted) == (0, [0, 1])
    assert capsys.readouterr().err == f"worker {lost}: its node died\n"
