"""Runs the commands whose results are known: did any metric leave its band?

    make expected
    python -m experiments.harness.expected --only=seed_network,tabular

experiments/expected.json has a list of {"flags": of `experiments.main`, "bands":
{metric: [low, high]}, "found": how}. Of a sweep a metric is `dice, weighting 3`: the
mean over the seeds, the weightings numbered as in the design. Exit code 1 says that a
band was left or a command failed.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import text

BANDS = pathlib.Path(__file__).parents[1] / "expected.json"


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_list("only", None, "these experiments alone", flag_values=values)
    flags.DEFINE_string("file", str(BANDS), "of the bands", flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Runs every command in a folder of its own; prints a line a metric."""
    given = command.parse(argv, define, __doc__)
    entries = json.loads(pathlib.Path(given.file).read_text(encoding="utf-8"))
    named = [entry["flags"][0].removeprefix("--experiment=") for entry in entries]
    text.known_names("--only", given.only or [], named)
    whole = True
    for name, entry in zip(named, entries, strict=True):
        if given.only is None or name in given.only:
            whole &= check(entry)
    return 0 if whole else 1


def check(entry: Mapping[str, Any]) -> bool:
    """Runs one command; whether it came to its end with every metric in its band."""
    print(f"\npython -m experiments.main {' '.join(entry['flags'])}", flush=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        words = [sys.executable, "-m", "experiments.main", *entry["flags"]]
        done = subprocess.run(
            [*words, f"--workdir={workdir}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"  failed: {(done.stdout.strip().splitlines() or ['?'])[-1]}")
            return False
        metrics = measured(workdir)
    whole = True
    for name, (low, high) in entry["bands"].items():
        inside = low <= metrics[name] <= high
        mark = "ok" if inside else "OUTSIDE"
        print(f"  {name:<24} {metrics[name]:.4g} in [{low:g}, {high:g}]: {mark}")
        whole &= inside
    print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    return whole


def measured(workdir: pathlib.Path) -> dict[str, float]:
    """The metrics of a run, or the means of a sweep by weighting."""
    rows = hw.reports.summary(hw.sweeps.read(workdir))
    if len(rows) == 1:
        return rows[0]["mean"]
    return {
        f"{metric}, weighting {number}": mean
        for number, row in enumerate(rows, start=1)
        for metric, mean in row["mean"].items()
    }


if __name__ == "__main__":
    command.run(main)
