"""Launchers: turn a study into processes. They know flags and folders, no models.

plan.py is pure: flags -> trials -> command lines. study.py checks a plan and keeps its
folder, for every launcher. local.py runs one on this machine.
"""
