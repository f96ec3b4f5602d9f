"""Explanations and prototypes: frozen records and their views."""
