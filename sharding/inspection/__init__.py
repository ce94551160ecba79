"""What is in a shard set: statistics, quality, contact sheets, and how they are told."""
