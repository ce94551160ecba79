"""The question asked of a clip.

A draw in; the changed clips and the right answer out. One task a file, and their registry.
"""
