"""Pareto: fronts, hypervolume and the drop against single-task training."""

from headwise.pareto._front import delta_m
from headwise.pareto._front import front
from headwise.pareto._front import hypervolume

__all__ = (
    "delta_m",
    "front",
    "hypervolume",
)
