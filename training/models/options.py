"""What several commands ask for."""

import click

__all__ = ["CLIPS"]

CLIPS = click.IntRange(1, 1000)
"""Clips a video, as `evaluation.clips` bounds them: those of one video must fit into a batch."""
