"""One fit, from checked data to a fitted model."""
