"""Trials that run as one program: members, modes of execution, which is chosen."""
