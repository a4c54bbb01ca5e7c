"""Runs a study on a SLURM cluster, by a job array of workers that share its trials.

    python -m launch.slurm --flagfile=study.flags --workers=8 --partition=cpu --time=240
    python -m launch.slurm --flagfile=study.flags --workers=4 --gpus=1 --partition=gpu \
        --account=abc --time=1-0 --sbatch=constraint=a100,exclusive \
        --prefix="apptainer exec --nv image.sif" --check --wait
    python -m launch.slurm --flagfile=study.flags --workers=8 --top_up

Each element of the array is one worker: it takes what is left, so the same command
again adds workers, and so does any other launcher in the same folder. A worker is
warned before its time ends, saves, and is requeued; so is one that is preempted or
killed, until all is done or starts lead to nothing. The script stays in the folder, in
`launches/`: `sbatch SCRIPT` submits it again. What workers say is in `logs/`.

Exit codes: 0 submitted (with --wait: all done), 2 wrong usage, or SLURM refuses it;
with --wait those of launch.local.
"""

import pathlib
import shlex
import sys
import time
from collections.abc import Sequence

from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import outcome
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import launches
from launch import plan as places
from launch import slurm_notice
from launch import slurm_options
from launch import slurm_queue
from launch import slurm_script
from launch.launches import Launch
from launch.slurm_script import Job
from launch.slurm_script import Place

CODE = pathlib.Path(__file__).resolve().parents[1]
"""The checkout, where workers start."""
PROBE = "{}-check.sh"
"""The script that looks whether workers can work there, of a launch's token."""
PERIOD = 5.0
"""Seconds between two questions for what is left, to the store and to SLURM."""


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those of this launcher."""
    launches.define(values)
    numbers = {
        "workers": "elements of the array, each a worker; or 1",
        "at_once": "how many of them run at the same time, at most",
        "cpus": "of each worker (--cpus-per-task)",
        "notice": "seconds before the end of its time at which a worker is told to "
        "save; else by what the study measured",
    }
    command.define(values, int, numbers)
    most = "starts in a row that get no trial further before a worker is given up"
    command.define(values, int, {"max_fruitless": most}, 3)
    words = {
        "partition": "of the workers' jobs",
        "account": "that pays",
        "qos": "of the workers' jobs",
        "time": "limit of each worker, as SLURM reads it: 90 (minutes), 4:00:00, 1-12",
        "memory": "of each worker (--mem), as 16G",
        "gpus": "of each worker, as 1 or a100:1 (--gres=gpu:...)",
        "prefix": "what the worker's command begins with, as the shell reads it: "
        "apptainer exec --nv image.sif",
        "python": "of the workers; else this one, or `python` within a container",
    }
    command.define(values, str, words)
    more = "other options of sbatch, as constraint=a100,exclusive; may come again"
    flags.DEFINE_multi_string("sbatch", [], more, flag_values=values)
    setup = "a line of the shell before the worker: module load cuda; may come again"
    flags.DEFINE_multi_string("setup", [], setup, flag_values=values)
    switches = {
        "check": "first let a job look whether workers can work there",
        "top_up": "submit only as many workers as are missing from --workers",
        "wait": "wait for the end and show the study, as launch.local does",
    }
    command.define(values, bool, switches)


def read(given: flags.FlagValues, folder: pathlib.Path) -> Job:
    """What the flags ask SLURM for.

    Raises:
        UsageError: what cannot be meant.
    """
    devices = slurm_options.devices(given.gpus)
    named = {
        "partition": given.partition,
        "account": given.account,
        "qos": given.qos,
        "time": given.time,
        "mem": given.memory,
        "cpus-per-task": text.whole("--cpus", given.cpus, 1),
        "gres": None if devices is None else f"gpu:{given.gpus}",
    }
    notice = text.whole("--notice", given.notice, 1)
    if notice is None:
        notice = slurm_notice.notice(*slurm_notice.measured(folder))
    limit = slurm_options.seconds(given.time)
    if limit is not None and limit <= notice:
        raise UsageError(
            f"--time: expected more than the {notice} s by which workers are warned "
            f"before (--notice), got {given.time}"
        )
    asked = slurm_options.read(named, given.sbatch)
    if "job-name" not in dict(asked):
        asked = (("job-name", folder.name), *asked)
    exports = [("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))]
    exports += [("JAX_PLATFORMS", "cuda")] if devices else []
    if given.cpus is not None:  # srun does not take it over from sbatch
        exports += [("SRUN_CPUS_PER_TASK", str(given.cpus))]
    return Job(
        workers=text.whole("--workers", given.workers, 1) or 1,
        at_once=text.whole("--at_once", given.at_once, 1),
        notice=notice,
        fruitless=text.whole("--max_fruitless", given.max_fruitless, 1) or 1,
        asked=asked,
        exports=tuple(exports),
        setup=tuple(given.setup),
        prefix=given.prefix or "",
        python=given.python or slurm_options.python(given.prefix, sys.executable),
    )


def main(argv: Sequence[str]) -> int:
    """Checks the flags, submits workers; with --wait, shows what they do."""
    given = command.parse(argv, define, __doc__)
    study = places.read(given)
    folder = study.folder.absolute()
    job = read(given, folder)
    slurm_script.script(job, Place(folder, CODE, "", ""), [])  # whether it can be said
    if not given.dry_run:
        slurm_queue.need("sbatch")
    wanted = job.workers
    if given.top_up:
        job = job._replace(workers=missing(wanted, folder, given.dry_run))
    if job.workers < 1:
        print(f"{wanted - job.workers} workers are there: nothing is submitted")
        return 0
    launch = launches.begin(study, "slurm", dry_run=given.dry_run, workers=wanted)
    files = scripts(launch, job, given)
    if given.dry_run:
        launches.tell(map(_command, files), launches.files(launch) | files)
        return 0
    if _over(launch):
        launches.forget(launch)
        print("nothing is submitted")
        return launches.end(launch, lambda: 0) if given.wait else 0
    try:
        (folder / slurm_script.LOGS).mkdir(exist_ok=True)
        for path, script in files.items():
            path.write_text(script, encoding="utf-8")
        *probe, last = files
        for path in probe:
            print(_told(slurm_queue.check(_command(path), folder)), flush=True)
        number = slurm_queue.submit(_command(last))
    except BaseException:
        launches.forget(launch)
        raise
    slurm_queue.keep(folder, launch.token, number)
    _say(job, number, last, given.notice is None)
    if not given.wait:
        return 0
    return launches.end(launch, lambda: wait(launch, number))


def scripts(
    launch: Launch, job: Job, given: flags.FlagValues
) -> dict[pathlib.Path, str]:
    """The scripts of a launch as they are submitted, in order: {path: text}."""
    folder = launch.plan.study.folder.absolute()
    place = Place(folder, CODE, _path(), launch.token)
    devices = slurm_options.devices(given.gpus)
    workers = text.whole("--workers", given.workers, 1) or 1
    words = launches.worker(launch, workers=workers, devices=devices)
    where = folder / launches.FOLDER
    script = {where / f"{launch.token}.sh": slurm_script.script(job, place, words)}
    if not given.check:
        return script
    return {
        where / PROBE.format(launch.token): slurm_script.probe(job, place, words)
    } | script


def _command(script: pathlib.Path) -> list[str]:
    """What submits a script; a probe is waited for."""
    waits = ["--wait"] if script.name.endswith(PROBE.format("")) else []
    return ["sbatch", "--parsable", *waits, str(script)]


def missing(wanted: int, folder: pathlib.Path, dry_run: bool) -> int:
    """How many workers are not there, by squeue.

    Raises:
        UsageError: it cannot be asked.
    """
    there = slurm_queue.count(slurm_queue.jobs(folder))
    if there is None and not dry_run:
        raise UsageError(
            "--top_up: squeue does not answer here, so nobody knows how many workers "
            "there are: without --top_up as many as --workers come to them"
        )
    return wanted - (there or 0)


def wait(launch: Launch, number: str) -> int:
    """Shows the study until it is done, or until no worker of it is left in SLURM.

    Returns:
        0 if all is done; else how the workers of this launch ended.
    """
    plan, asked = launch.plan, -PERIOD
    folder = plan.study.folder.absolute()
    try:
        with hw.sweeps.watch(folder, trials=len(plan.trials)) as look:
            while True:
                look()
                if time.monotonic() - asked >= PERIOD:
                    there = slurm_queue.count(slurm_queue.jobs(folder))
                    if there == 0 or _over(launch):
                        break
                    asked = time.monotonic()
                time.sleep(0.2)
    except KeyboardInterrupt:
        print(f"the workers go on: scancel {number} ends them", flush=True)
        raise
    if _over(launch):
        return 0
    found = slurm_queue.ends(folder, [number])
    for line in slurm_queue.tell(found):
        print(line, file=sys.stderr)
    return slurm_queue.worst(found)


def _over(launch: Launch) -> bool:
    """Whether nothing is left to do."""
    records = hw.sweeps.read(launch.plan.study.folder)
    again = launch.plan.study.retry and not all(r["finite"] for r in records)
    return not outcome.undone(launch.plan, records) and not again


def _say(job: Job, number: str, script: pathlib.Path, chosen: bool) -> None:
    """What was submitted, and how it is looked at, ended and done again."""
    folder = script.parents[1]
    several = "1 worker" if job.workers == 1 else f"{job.workers} workers"
    print(
        f"job {number}: {several}; python -m launch.status {shlex.quote(str(folder))}"
    )
    why = slurm_notice.told(*slurm_notice.measured(folder)) if chosen else "--notice"
    print(f"each is warned {job.notice} s before its time ends ({why})")
    again = shlex.join(["sbatch", str(script)])
    print(f"scancel {number} ends them; {again} adds as many", flush=True)


def _told(found: dict) -> str:
    """What a probe found."""
    one = f"{found.get('devices')} x {found.get('backend')}"
    versions = f"jax {found.get('jax')}, Python {found.get('python')}"
    return f"a worker can work there: {found.get('host')} has {one}, {versions}"


def _path() -> str:
    """What `PYTHONPATH` must have: the library of the checkout, unless installed."""
    library = pathlib.Path(hw.__file__).resolve().parents[1]
    return str(library) if CODE in library.parents else ""


if __name__ == "__main__":
    command.run(main)
