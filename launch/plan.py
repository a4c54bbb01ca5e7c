"""Which workers a launcher starts, and on what each of them runs. Pure.

Nothing here imports JAX, an experiment or its data: a plan can be made anywhere.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from experiments.harness import study as studies
from experiments.harness import text
from experiments.harness.study import Study
from experiments.harness.text import UsageError

CPU_DEVICES = "--xla_force_host_platform_device_count"
"""What makes a CPU look like several devices."""


class Place(NamedTuple):
    """What one worker runs on."""

    cpus: tuple[int, ...]
    """The CPUs that it keeps to; () for all."""
    env: dict[str, str]
    """What its environment says beside that of the launcher."""


def define(values: flags.FlagValues) -> None:
    """The flags of a study, the same for every launcher."""
    studies.define(values)


def read(given: flags.FlagValues) -> Study:
    """The study that parsed flags ask for, by several processes.

    Raises:
        UsageError: a text that cannot be understood, or weights that nothing would use.
    """
    study = studies.read(given, "studies/{}_launched")
    if study.mesh is not None:
        raise UsageError(
            "--mesh: the workers of a study are processes that run at the same time, "
            "each on devices of its own; a mesh goes with experiments.main, also with "
            "its --sweep"
        )
    return study


def places(
    workers: int | None,
    devices: int | None,
    cpus: Sequence[int],
    gpus: Sequence[str],
    env: Mapping[str, str],
) -> list[Place]:
    """Deals the CPUs and GPUs of this machine to workers.

    Args:
        workers: how many; None: as many as there are GPUs for, or one.
        devices: of each worker; None: one. Without GPUs a CPU looks like so many.
        cpus: that may be used.
        gpus: their names, as `CUDA_VISIBLE_DEVICES` has them.
        env: of the launcher.

    Raises:
        UsageError: fewer GPUs than are asked for.

    Example:
        >>> for place in places(2, None, range(4), ["0", "1"], {}):
        ...     print(place)
        Place(cpus=(0, 1), env={'CUDA_VISIBLE_DEVICES': '0'})
        Place(cpus=(2, 3), env={'CUDA_VISIBLE_DEVICES': '1'})
    """
    text.whole("--workers", workers, 1)
    text.whole("--devices", devices, 1)
    each = devices or 1
    if gpus and each > len(gpus):
        raise UsageError(f"--devices: expected at most {len(gpus)} GPUs, got {each}")
    count = workers or max(len(gpus) // each, 1)
    if gpus and count * each > len(gpus):
        raise UsageError(
            f"--workers: expected at most {len(gpus) // each}, as there are "
            f"{len(gpus)} GPUs, {each} a worker; got {count}"
        )
    dealt = []
    for i in range(count):
        mine = list(gpus[i * each : (i + 1) * each])
        changed = {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if gpus else {}
        if not gpus and each > 1:
            before = env.get("XLA_FLAGS", "")
            changed["XLA_FLAGS"] = f"{before} {CPU_DEVICES}={each}".strip()
        dealt.append(Place(_share(cpus, i, count), changed))
    return dealt


def _share(cpus: Sequence[int], i: int, count: int) -> tuple[int, ...]:
    """The i-th of `count` shares; all of them where there are too few to share."""
    if count == 1 or count > len(cpus):
        return ()
    first, last = (len(cpus) * k // count for k in (i, i + 1))
    return tuple(cpus[first:last])


def gpus(env: Mapping[str, str], there: Sequence[str]) -> list[str]:
    """The names of the GPUs that a worker may be given.

    Args:
        env: what it says of devices and platforms counts.
        there: the GPUs of this machine.

    Example:
        >>> gpus({"CUDA_VISIBLE_DEVICES": "3,5"}, ["0", "1"])
        ['3', '5']
        >>> gpus({"JAX_PLATFORMS": "cpu"}, ["0", "1"])
        []
    """
    platforms = env.get("JAX_PLATFORMS", "").split(",")
    if platforms != [""] and not {"cuda", "gpu"} & set(platforms):
        return []
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(there)
    named = [name.strip() for name in visible.split(",")]
    return [name for name in named if name not in ("", "-1", "NoDevFiles")]
