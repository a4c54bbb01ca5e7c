"""Derivatives of final metrics in the weights: forward mode, neighbours."""
