"""Pareto: fronts, how good they are, and the drop against single-task training."""

from headwise.pareto._attainment import attainment
from headwise.pareto._delta_m import delta_m
from headwise.pareto._front import front
from headwise.pareto._front import ranks
from headwise.pareto._indicators import additive_epsilon
from headwise.pareto._indicators import igd_plus
from headwise.pareto._landmarks import crowding
from headwise.pareto._landmarks import ideal
from headwise.pareto._landmarks import knee
from headwise.pareto._landmarks import nadir
from headwise.pareto._volume import hypervolume

__all__ = (
    "additive_epsilon",
    "attainment",
    "crowding",
    "delta_m",
    "front",
    "hypervolume",
    "ideal",
    "igd_plus",
    "knee",
    "nadir",
    "ranks",
)
