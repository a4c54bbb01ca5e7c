"""What started a process, as far as its environment tells: names to find it by."""

from collections.abc import Mapping

VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_PROCID",
    "SLURMD_NODENAME",
    "RAY_JOB_ID",
    "RAY_NODE_ID",
    "JOBSET_NAME",
    "JOB_COMPLETION_INDEX",
    "POD_NAME",
)
"""Of SLURM, Ray and Kubernetes."""


def engine(env: Mapping[str, str]) -> dict[str, str] | None:
    """What an engine says of a process; None where no engine started it.

    Args:
        env: of the process.

    Example:
        >>> engine({"HOME": "/root", "SLURM_JOB_ID": "8"})
        {'SLURM_JOB_ID': '8'}
        >>> engine({"HOME": "/root"}) is None
        True
    """
    return {name: env[name] for name in VARIABLES if env.get(name)} or None


def words(said: Mapping[str, str]) -> str:
    """What a user's tools find a process by.

    Args:
        said: of `engine`.

    Example:
        >>> ids = {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7"}
        >>> words(ids | {"SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "1"})
        'SLURM job 7_3, restart 1'
        >>> words({"RAY_NODE_ID": "ab"}), words({"POD_NAME": "grid-0"})
        ('Ray node ab', 'pod grid-0')
    """
    array = [said.get("SLURM_ARRAY_JOB_ID"), said.get("SLURM_ARRAY_TASK_ID")]
    slurm = "_".join(map(str, array)) if all(array) else said.get("SLURM_JOB_ID")
    names = {
        "SLURM job": slurm,
        "restart": said.get("SLURM_RESTART_COUNT"),
        "Ray job": said.get("RAY_JOB_ID"),
        "Ray node": said.get("RAY_NODE_ID"),
        "JobSet": said.get("JOBSET_NAME"),
        "pod": said.get("POD_NAME"),
    }
    return ", ".join(f"{name} {x}" for name, x in names.items() if x)
