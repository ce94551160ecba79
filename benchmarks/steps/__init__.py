"""Samples a second of the training step.

Networks and a clip shape in; the step alone, its choices, its peers, the teacher's cost, training end to end out.
"""
