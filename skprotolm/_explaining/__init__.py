"""Exact sums behind a prediction."""
