"""Hyper-parameter search with Ray Tune: spaces, trials, the search itself, and its results."""
