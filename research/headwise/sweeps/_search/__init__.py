"""Trials that follow from results: adaptive search, successive halving."""
