"""All stages at once, a few batches ahead.

An index and a recipe in, an iterator of batches out, exact after any stop.
"""
