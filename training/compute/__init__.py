"""One update on the device: losses in; precision, optimiser, schedule and processes do the rest."""
