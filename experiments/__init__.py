"""Experiments: a question, a command and an expected answer each; no library code.

main.py is the way in; template.py is the file to copy. tasks/ has a file an experiment,
studies/ questions over many runs, harness/ what they share, benchmarks/ times.
"""
