"""What larger data sets cost.

A shard set repeated up to a million videos in, seconds and memory to its first batch out.
"""
