"""Several processes as several hosts: one training, and a study that they share."""

import json
import os
import signal
import socket

import pytest

import headwise as hw
from experiments import main
from experiments.harness import command
from launch import multihost
from launch import peer
from launch import training
from tests.launch import _commands
from tests.launch import local_test
from tests.launch._commands import end

TINY = _commands.TINY
# One device a process, and programs that compile fast: what all come to is the law.
ENVIRONMENT = _commands.ENVIRONMENT | {
    "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=1"),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"],
}
LINE = _commands.ROOT / "tests/launch/_line.py"
RUN = [f"--experiment={LINE}", "--balancer=mgda"]
MESH = "--mesh=data:2"


def begin(*words, module="launch.multihost", env=None, **options):
    environment = ENVIRONMENT | (env or {})
    return _commands.begin(*words, module=module, environment=environment, **options)


def by_hand(*words, hosts=2, **options):
    """The command of each of two hosts, or of the first."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        where = f"--coordinator=127.0.0.1:{one.getsockname()[1]}"
    common = [*words, where, "--processes=2"]
    return [begin(*common, f"--process={i}", **options) for i in range(hosts)]


def metrics(workdir):
    return json.loads((workdir / "result.json").read_text())


@pytest.mark.slow
def test_two_processes_train_what_one_trains_also_in_pieces(tmp_path, capsys, commands):
    """A proxy does not hinder them; a signal saves on both, a kill ends both."""
    flags = [*RUN, "--steps=40"]
    both = [*flags, MESH, "--local=2", f"--workdir={tmp_path / 'both'}"]
    two = begin(*both, env={"http_proxy": "http://127.0.0.1:9"})
    commands.append(two)
    code, _, err = _commands.here(capsys, main, *flags, f"--workdir={tmp_path / 'one'}")
    assert code == 0, err
    code, out = end(two)
    assert code == 0, out
    assert "process 0 of 2" in out
    assert "process 1 of 2" in out
    assert out.count("everything is in") == 1  # one process prints
    assert len(hw.sweeps.read(tmp_path / "both")) == 1
    expected = pytest.approx(metrics(tmp_path / "one"), rel=1e-4)
    assert metrics(tmp_path / "both") == expected
    go, said = tmp_path / "held.go", tmp_path / "said"
    flags += [MESH, f"--workdir={tmp_path / 'pieces'}", f"--set=until={go}"]

    def held():
        """Two hosts, which are at an evaluation, and stay there."""
        for path in tmp_path.glob("held.*"):
            path.unlink()
        with said.open("w") as file:
            hosts = by_hand(*flags, stdout=file)
        commands.extend(hosts)
        _commands.until(lambda: len(list(tmp_path.glob("held.*"))) == 2)
        return hosts

    hosts = held()
    hosts[1].send_signal(signal.SIGTERM)
    assert [process.wait(_commands.PATIENCE) for process in hosts] == [75, 75]
    out = said.read_text()
    assert "Traceback" not in out
    assert out.count("the same command goes on") == 2
    assert out.count("interrupted by SIGTERM") == 1
    hosts = held()
    hosts[1].kill()  # its child ends with it
    hosts[1].wait()
    pids = {int(path.suffix[1:]) for path in tmp_path.glob("held.*")}
    _commands.until(lambda: len(pids & set(_commands.processes_of(tmp_path))) == 1)
    go.touch()
    assert hosts[0].wait(_commands.PATIENCE) == 75
    out = said.read_text()
    assert "another process is gone" in out.splitlines()[-1]
    assert "Traceback" not in out
    assert "Check failure" not in out
    _commands.until(lambda: not _commands.processes_of(tmp_path))
    hosts = by_hand(*flags)
    commands += hosts
    for process in hosts:
        code, out = end(process)
        assert code == 0, out
    assert metrics(tmp_path / "pieces") == metrics(tmp_path / "both")


@pytest.mark.slow
def test_processes_that_do_not_come_are_one_line(tmp_path, commands):
    flags = [f"--experiment={TINY}", MESH, "--timeout=2", f"--workdir={tmp_path / 'a'}"]
    nobody = "--coordinator=127.0.0.1:9"
    (waits,) = by_hand(*flags, hosts=1)
    first = begin(*flags, nobody, "--processes=2", "--process=1")
    commands += [waits, first]
    code, out = end(first)
    assert (code, out.count("\n")) == (2, 1), out
    assert "did not reach 127.0.0.1:9 within 2 s (" in out
    code, out = end(waits)
    assert (code, out.count("\n")) == (2, 1), out
    assert "error: --timeout: process 0 on" in out
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_hosts_share_a_study(tmp_path, commands):
    """Each trial once; whoever ends first shows the table."""
    grid = ["--weights=a=1,b=0.1:0.3:1", "--seeds=0:4", "--size=2"]
    go = tmp_path / "go"
    grid += ["--mode=scan", f"--set=until={go}"]
    flags = [f"--experiment={_commands.HELD}", *grid, f"--folder={tmp_path / 'study'}"]
    hosts = [begin(*flags, "--workers=2"), begin(*flags, "--workers=2")]
    commands += hosts
    tmp_path /= "study"
    _commands.until(lambda: len(_commands.claims(tmp_path)) == 2)
    go.touch()
    said = []
    for process in hosts:
        code, out = end(process)
        assert code == 0, out
        assert "1 of 2 workers" in out
        said.append(out)
    assert sum("standard deviation over 4 seeds" in out for out in said) == 1
    records = hw.sweeps.read(tmp_path)
    assert len(records) == len(list((tmp_path / "done").iterdir())) == 12
    for record in records:
        x = local_test.by_hand(record)
        assert record["metrics"]["x"] == pytest.approx(x, rel=1e-5)
    assert len(list((tmp_path / "flags").iterdir())) == 1
    assert len(list((tmp_path / "launches").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("code", "connected", "expected", "said"),
    [
        (3, True, 3, None),
        (-signal.SIGABRT, True, 75, "another process is gone; the same command goes"),
        (-signal.SIGABRT, False, 2, "error: --timeout: process 1 on"),
        (-signal.SIGKILL, True, 1, "ended by SIGKILL"),
        (-signal.SIGUSR1, False, 75, None),
    ],
)
def test_what_an_end_stands_for(code, connected, expected, said):
    """JAX aborts a process that does not find the others, or loses one."""
    join = peer.Join("a:1", 2, 1, 60)
    found, line = training.told(code, connected, join, "process 1")
    assert found == expected
    assert line is None if said is None else said in line


def test_what_xla_tells_of_itself_is_left_out(tmp_path):
    log = tmp_path / "out"
    output = training.Output(log)
    assert list(output.news()) == []
    log.write_text(f"[Gloo] Rank 0 is\nprocess 0 of 2 {peer.CONNECTED}: 1\nhal")
    assert list(output.news()) == [f"process 0 of 2 {peer.CONNECTED}: 1"]
    assert output.connected
    page = "F1129 11:29:57.439194    9611 client.h:80] Terminating process\n\n    @ 0x7"
    log.write_text(f"{log.read_text()}f\nE1129 11:30:23.3 a\nlast\n{page}")
    assert list(output.news(last=True)) == ["half", "last"]


def guarded(*words):
    return command.guarded(multihost.main, ["multihost", *words])


JOIN = ["--coordinator=a:1", "--processes=2", "--process=1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([MESH], "--mesh: expected processes that SLURM, Open MPI"),
        ([MESH, *JOIN[:1]], "--coordinator: expected --processes and --process, too"),
        ([MESH, *JOIN[1:]], "--processes and --process: expected --coordinator, too"),
        ([MESH, *JOIN, "--process=2"], "--process: expected 0 to 1, as there are 2"),
        ([MESH, *JOIN, "--coordinator=a"], "--coordinator: expected HOST:PORT, got a"),
        ([MESH, *JOIN, "--local=2"], "--local: starts all processes: drop --coord"),
        ([MESH, *JOIN, "--devices=2"], "--devices: goes with --local"),
        ([MESH, *JOIN, "--timeout=0"], "--timeout: expected 1 or more, got 0"),
        ([MESH, "--local=0"], "--local: expected 1 or more, got 0"),
        ([MESH, "--local=2", "--seeds=0:2"], "--seeds is of a study: its trials go to"),
        ([MESH, "--local=2", "--balancers=mgda"], "--balancers is of a study"),
        ([MESH, "--local=2", "--sweep"], "--sweep is of a study"),
        (["--mesh=2", "--local=2"], "--mesh: expected NAME:VALUE"),
        (["--one_training", "--local=2"], "--one_training: expected --mesh, as data:4"),
        (JOIN, "--coordinator: goes with --mesh; workers need no others"),
        (["--timeout=3"], "--timeout: goes with --mesh"),
        (["--workers=0"], "--workers: expected 1 or more, got 0"),
        (["--seeds=a"], "--seeds: expected numbers, got a"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(
    words, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert guarded("--experiment=seed_network", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("words", [[MESH], []])
def test_a_bare_python_in_a_job_of_several_nodes(words, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert guarded("--experiment=seed_network", *words) == 2
    assert "start it by srun" in capsys.readouterr().err


def test_a_dry_run_says_who_would_do_what(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert guarded(*RUN, MESH, "--local=2", "--devices=2", "--dry_run") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("2 processes on this machine, which meet at 127.0.0.1:")
    assert ["--process=0" in lines[0], "--process=1" in lines[1]] == [True, True]
    for line in lines:
        assert "--xla_force_host_platform_device_count=2" in line
        assert "NPROC=8" in line  # two devices of a CPU wait for each other else
        assert line.endswith("_line.py --balancer=mgda --mesh=data:2")
    step = {"JOB_ID": "7", "STEP_NODELIST": "n[1-2]", "NTASKS": "2", "PROCID": "1"}
    for name, value in (step | {"LOCALID": "0"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    flagfile = tmp_path / "run.flags"
    flagfile.write_text(MESH)  # a mesh in a file is one, too
    assert guarded(*RUN, f"--flagfile={flagfile}", "--dry_run") == 0
    flagfile.unlink()
    first, line = capsys.readouterr().out.splitlines()
    assert first == "process 1 of 2, by SLURM; JAX finds the coordinator"
    assert "--coordinator" not in line
    assert guarded(*RUN[:1], "--simplex=2", "--dry_run") == 0
    shares = "--workers=2 --workers_here=1"
    assert capsys.readouterr().out.splitlines()[-1].endswith(shares)
    assert [*tmp_path.iterdir()] == []
