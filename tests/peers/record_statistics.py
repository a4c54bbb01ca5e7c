"""Records what scikit-posthocs and rliable say of a table, for tests of reports.

Run where they are installed; the tests need only the file that it writes:

    pip install "scikit-posthocs==0.17.*" "rliable==1.2.*"
    python -m tests.peers.record_statistics
"""

import json
import pathlib

import numpy as np
import pandas
import scikit_posthocs
from rliable import metrics
from scipy import stats

TARGET = pathlib.Path(__file__).with_name("statistics.json")


def table():
    """Four rows, seven seeds: a seed's own level, rows apart, one tie."""
    rng = np.random.default_rng(20)
    rows = np.array([0.0, 0.3, 0.5, 0.55])[:, None]
    values = rng.normal(size=7) + rows + 0.25 * rng.normal(size=(4, 7))
    values = np.round(values, 3)
    values[1, 2] = values[2, 2]
    return values


def main():
    values = table()
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(pandas.DataFrame(values.T))
    p = [0.001, 0.04, 0.03, 0.2, 0.041]
    adjusted = scikit_posthocs.__version__, rliable_version()
    recorded = {
        "versions": dict(zip(("scikit-posthocs", "rliable"), adjusted, strict=True)),
        "values": values.tolist(),
        "nemenyi": nemenyi.to_numpy().tolist(),
        # Of [runs, tasks] with one task, the row's own mean of the middle half.
        "iqm": [float(metrics.aggregate_iqm(row[:, None])) for row in values],
        "p": p,
        "benjamini_hochberg": stats.false_discovery_control(p).tolist(),
    }
    TARGET.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def rliable_version():
    from importlib import metadata

    return metadata.version("rliable")


if __name__ == "__main__":
    main()
