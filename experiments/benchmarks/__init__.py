"""Times: what the library costs, beside plain code, other libraries and the floor.

    python -m experiments.benchmarks.gradients --json=FILE
    python -m experiments.benchmarks.losses --peer=PYTHON --json=FILE
    python -m experiments.benchmarks.balancers --peer=PYTHON --json=FILE
    python -m experiments.benchmarks.tables

`harness` takes the times, `peers/` holds what another Python runs, `results` says what
a run leaves as JSON, `views` makes tables of it, and `tables` writes them into the
pages of docs/.
"""
