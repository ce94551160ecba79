"""Clips a second of the loader: a shard set in, its rate beside reading alone and decoding alone out."""
