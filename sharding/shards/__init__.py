"""The format: tars, samples, the memory-mapped index, the manifest; written, read and verified."""
