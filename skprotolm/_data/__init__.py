"""Validation of X, y and weights."""
