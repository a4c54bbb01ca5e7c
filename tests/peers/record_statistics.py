"""Records what scikit-posthocs, statsmodels and rliable say, for tests of reports.

Run where they are installed; the tests need only the file that it writes:

    pip install "scikit-posthocs==0.17.*" "rliable==1.2.*"
    python -m tests.peers.record_statistics
"""

import json
import pathlib
from importlib import metadata

import numpy as np

TARGET = pathlib.Path(__file__).with_name("statistics.json")
PEERS = ("scikit-posthocs", "statsmodels", "rliable")


def table():
    """Four rows, seven seeds: a seed's own level, rows apart, one tie."""
    rng = np.random.default_rng(20)
    rows = np.array([0.0, 0.3, 0.5, 0.55])[:, None]
    values = rng.normal(size=7) + rows + 0.25 * rng.normal(size=(4, 7))
    values = np.round(values, 3)
    values[1, 2] = values[2, 2]
    return values


def main():
    # Here, so that the file can be looked through where they are not.
    import pandas
    import scikit_posthocs
    from rliable import metrics
    from statsmodels.stats import multitest

    values = table()
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(pandas.DataFrame(values.T))
    p = [0.001, 0.04, 0.03, 0.2, 0.041]
    recorded = {
        "versions": {name: metadata.version(name) for name in PEERS},
        "values": values.tolist(),
        "nemenyi": nemenyi.to_numpy().tolist(),
        # Of [runs, tasks] with one task, the row's own mean of the middle half.
        "iqm": [float(metrics.aggregate_iqm(row[:, None])) for row in values],
        "p": p,
        "benjamini_hochberg": multitest.multipletests(p, method="fdr_bh")[1].tolist(),
    }
    TARGET.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
