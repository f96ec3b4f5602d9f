"""What y means; NumPy only, so that it travels with the model."""
