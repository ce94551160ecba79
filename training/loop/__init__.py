"""The trainer: a checked plan in; steps, metrics and checkpoints out, through stops and faults."""
