"""A run folder: its files, checkpoints, environment, and the teachers it takes from other runs."""
