"""What made a result: versions, revision of the code, devices, host, time."""

import datetime
import functools
import hashlib
import inspect
import math
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import numpy as np

from headwise import _engine
from headwise import _version

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def made_with(*, device: bool = True) -> dict[str, Any]:
    """What a result made now was made with: software, machine, time.

    Args:
        device: whether to ask JAX for its devices. The first question takes them for
            this process: a process that only starts others says False.

    Returns:
        {"versions" {package: version, None where not installed}, "revision", "device",
        "platform", "host", "engine", "time"}: `revision` is the git commit of
        Headwise's own code, with a "+" if files of it were changed since, None outside
        a checkout; `device` is {"backend", "kind", "count"} or None; `engine` is what
        SLURM, Ray or Kubernetes say of this process, {variable: text}, or None; `time`
        is UTC in ISO 8601.

    Example:
        >>> made = hw.sweeps.made_with()
        >>> print(made["versions"]["jax"] == jax.__version__, made["device"]["backend"])
        True cpu
    """
    of_process = _of_process()
    now = datetime.datetime.now(datetime.UTC)
    return {
        "versions": dict(of_process["versions"]),
        "revision": of_process["revision"],
        "device": _device() if device else None,
        "platform": of_process["platform"],
        "host": of_process["host"],
        "engine": _engine.engine(os.environ),
        "time": now.isoformat(timespec="seconds"),
    }


def _device() -> dict[str, Any]:
    first, *_ = devices = jax.devices()
    return {
        "backend": first.platform,
        "kind": first.device_kind,
        "count": len(devices),
    }


@functools.cache
def _of_process() -> dict[str, Any]:
    """What stays the same while a process runs, also if files change meanwhile."""
    return {
        "versions": {
            "headwise": _version.__version__,
            **{name: _installed(name) for name in _PACKAGES},
            "python": platform.python_version(),
        },
        "revision": revision(pathlib.Path(__file__)),
        "platform": platform.platform(),
        "host": platform.node(),
    }


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def function(f: Callable[..., Any]) -> dict[str, Any]:
    """What a function is, as far as Python can tell; plain JSON.

    Returns:
        {"name": "module.name", "source": hash of its text, None where there is none,
        "uses": {name: plain value} of the numbers, texts and bools that it takes from
        outside: of a `functools.partial`, of functions around it, of its module}.

    Example:
        >>> def make(rate):
        ...     return lambda weights, seed: {"rate": rate}
        >>> function(make(0.1))["uses"]
        {'rate': 0.1}
    """
    uses: dict[str, Any] = {}
    while isinstance(f, functools.partial) or hasattr(f, "__wrapped__"):
        if isinstance(f, functools.partial):
            uses |= {str(i): x for i, x in enumerate(f.args)} | f.keywords
            f = f.func
        else:
            f = f.__wrapped__
    if not inspect.isroutine(f):
        f = type(f)
    if inspect.isfunction(f):
        found = inspect.getclosurevars(f)
        uses = {**found.globals, **found.nonlocals, **uses}
    try:
        source = hashlib.sha256(inspect.getsource(f).encode()).hexdigest()
    except (OSError, TypeError):
        source = None
    return {
        "name": f"{_module(f.__module__)}.{f.__qualname__}",
        "source": source,
        "uses": {
            name: _plain(value)
            for name, value in uses.items()
            if isinstance(value, bool | int | float | str | np.generic)
        },
    }


def _plain(value: Any) -> bool | int | float | str:
    """A number or text that JSON holds in little space."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > 100:
        return hashlib.sha256(value.encode(errors="replace")).hexdigest()
    return value if isinstance(value, bool | int | float) else str(value)


def _module(name: str) -> str:
    """A script run as `python study.py` is called as it is when it is imported."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if name != "__main__" or file is None:
        return name
    return pathlib.Path(file).stem if spec is None else spec.name


def revision(file: pathlib.Path) -> str | None:
    """The commit of a file's checkout, "+" after it if tracked files differ from it.

    None if git does not know the file (installed, even into a folder of another
    checkout) or is not there.
    """
    # Inside a hook git sets GIT_DIR and others, which would lead elsewhere.
    env = {n: value for n, value in os.environ.items() if not n.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(file.parent), *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    except (OSError, subprocess.SubprocessError):
        return None
