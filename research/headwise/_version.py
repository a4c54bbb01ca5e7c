"""The version of the library: this line is the only place that says it."""

__version__ = "0.3.0"
