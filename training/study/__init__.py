"""A study: many runs as one piece of work. In come shards and what is to be compared, out go run folders and a plan."""
