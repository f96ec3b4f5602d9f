"""Records as text, HTML, figures and tables."""
