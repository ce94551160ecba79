"""Frames a second on the way to JPEG: videos in; our rate, the plain loop's and each stage's out."""
