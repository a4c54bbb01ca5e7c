"""Launchers: turn a sweep into processes. They know flags and folders, no models."""
