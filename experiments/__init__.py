"""Experiments: a question, a command and an expected answer each; no library code."""
