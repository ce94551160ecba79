"""Bytes: ranges of shard files in, checked JPEG bytes out, from disk, an object store or its cache."""
