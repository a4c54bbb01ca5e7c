"""Launchers: have an engine start workers on a study. They hold no model and no data.

launches.py is what all of them share, worker.py what they start, status.py how a study
stands. Launchers are local.py, slurm.py, ray.py, multihost.py, and manifest.py, which
writes what Kubernetes reads; files that begin with the name of one are its parts.
"""
