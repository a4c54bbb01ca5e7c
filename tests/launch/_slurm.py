"""A SLURM cluster of its own on this machine: a controller and two nodes.

Daemons of Debian's slurm-wlm and munge, in a temporary folder, on ports that are free,
with a key of their own. No configuration of the machine is read or changed. However
the test ends, they end, with all that they began.
"""

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile

from launch import slurm_script
from tests.launch._commands import until

NODES = ("n1", "n2")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

# A job that is put back waits a second longer than credentials are valid.
CONF = """
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.s,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdTimeout=10
KillWait=20
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
SlurmdLogFile={folder}/%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=1000
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacks():
    """Why there can be no cluster here; None if there can."""
    if os.getuid() != 0:
        return "slurmd is started by root alone"
    missing = [name for name in DAEMONS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)} (Debian: slurm-wlm, munge)"
    return None


class Cluster:
    """The daemons; `conf` is what commands need as SLURM_CONF."""

    def __init__(self, folder):
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.env = os.environ | {"PATH": PATH, "SLURM_CONF": str(self.conf)}
        self.daemons = {}

    def start(self):
        """Begins all; waits until the nodes are ready."""
        host = socket.gethostname().partition(".")[0]
        for name in ("state", *NODES):
            (self.folder / name).mkdir()
        ports = dict(zip(("port", *NODES), free_ports(3), strict=True))
        self.conf.write_text(CONF.format(folder=self.folder, host=host, **ports))
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = {"key": "munge.key", "pid": "munge.pid", "seed": "munge.seed"}
        named = [f"--{n}-file={self.folder / x}" for n, x in files.items()]
        where = f"--socket={self.folder / 'munge.s'}"
        self.begin("munge", "munged", "--foreground", "--force", where, *named)
        until((self.folder / "munge.s").exists)
        self.begin("slurmctld", "slurmctld", "-D")
        for name in NODES:
            self.begin_node(name)
        until(lambda: self.ask("sinfo", "-hN", "-o", "%T").split() == ["idle"] * 2)

    def begin_node(self, name):
        self.begin(name, "slurmd", "-D", "-N", name)

    def begin(self, name, *command):
        with (self.folder / f"{name}.out").open("wb") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def ask(self, *command):
        """What a command of SLURM's prints."""
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False
        )
        return done.stdout

    def states(self, job):
        """{element: its state} of what SLURM knows of a job."""
        lines = self.ask("squeue", "-hrj", job, "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def processes(self):
        """The processes that the cluster began, by their environment; no daemon."""
        daemons = {child.pid for child in self.daemons.values()}
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    f"SLURM_CONF={self.conf}".encode()
                    in (path / "environ").read_bytes()
                ):
                    found.append(int(path.name))
        return [pid for pid in found if pid not in daemons]

    def lose(self, node):
        """A node and all that runs in the cluster are gone without a word."""
        self.daemons[node].kill()
        self.daemons[node].wait()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if "slurmscriptd" not in command_line(pid):  # the controller's
                    os.kill(pid, signal.SIGKILL)

    def stop(self):
        """Ends all; no process is left."""
        for child in reversed(self.daemons.values()):
            child.terminate()
        for child in self.daemons.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(5)
            child.kill()
            child.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: self.processes() == [])


@contextlib.contextmanager
def cluster():
    """A running cluster."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slurm"))  # short: it holds a socket
    one = Cluster(folder)
    try:
        one.start()
        yield one
    finally:
        one.stop()
        shutil.rmtree(folder, ignore_errors=True)


def lost_job(cluster, folder):
    """A job whose node is lost: the node, and the job's log."""
    words = (
        'echo "restart $SLURM_RESTART_COUNT"; exec sleep ${SLURM_RESTART_COUNT:-300}'
    )
    python = str(tool(folder / "bin", "sleeps", words))
    logs, script = folder / "lost", folder / "lost.sh"
    (logs / "logs").mkdir(parents=True)
    job = slurm_script.Job(1, None, 60, 3, python=python)
    place = slurm_script.Place(logs, folder, "", "TOKEN")
    script.write_text(slurm_script.script(job, place, []))
    number = cluster.ask("sbatch", "--parsable", str(script)).strip()
    log = logs / f"logs/slurm-{number}_0.txt"
    until(lambda: log.exists() and "restart" in log.read_text())
    node = cluster.ask("squeue", "-hj", number, "-o", "%N").strip()
    cluster.lose(node)
    return node, log


def tool(folder, name, text):
    """A command that is a few lines of the shell."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def command_line(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text()


def free_ports(number):
    """Ports that nobody listened at just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
