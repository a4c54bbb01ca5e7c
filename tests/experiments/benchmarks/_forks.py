"""Runs benchmarks as commands, each in a process forked from one that has the imports.

`python -m tests.experiments.benchmarks._forks` reads a line for each: JSON of the
module, its words, and the files for what it prints and says of errors. It answers with
the exit code. JAX has no backend before the fork: each process makes its own.
"""

import gc
import json
import os
import runpy
import sys
import traceback

import flax.nnx  # noqa: F401
import optax  # noqa: F401

import experiments.benchmarks.harness
import experiments.tasks.digits  # noqa: F401


def run(module, words, out, err):
    """In a fork: the module as `python -m` runs it."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = [module, *words]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            run(*json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
