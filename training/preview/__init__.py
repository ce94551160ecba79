"""What the network will be fed: a shard set and settings in, captioned pictures out."""
