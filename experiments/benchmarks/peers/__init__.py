"""Other libraries, timed by a Python that has them: scripts, not imported from here.

The head of each file says what its Python needs, as a script's metadata (PEP 723):

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.13.0 monai==1.6.1
    python -m experiments.benchmarks.losses --peer=/tmp/peer/bin/python

A peer first prints one line of JSON, {"versions": {package: version}, "names": [...]}.
Then it answers each line {"name": ..., "calls": n, and data} with one line, {"seconds":
[n numbers]} or {"error": ...}, until its input ends. Nothing else may go to its output.
"""
