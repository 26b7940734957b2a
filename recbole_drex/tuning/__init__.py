"""Hyper-parameter search with Ray Tune: spaces, trials, the search itself, and what it leaves for readers."""
