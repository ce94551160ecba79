"""What one network has learned, made visible: a run and a shard set in; a page, pictures and their numbers out."""
