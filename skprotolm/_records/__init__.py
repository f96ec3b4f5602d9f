"""What users are given: frozen records and their views."""
