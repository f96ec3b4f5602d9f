"""The report of a fitted model, as plain lists and dicts."""
