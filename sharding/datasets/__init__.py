"""Which videos, classes and splits: a folder or table in, a Dataset out. One layout a file, all of them in `layout`."""
