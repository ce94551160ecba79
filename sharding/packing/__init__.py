"""Videos to shards: a plan in; tasks, shards, a journal, and one whole set out, whatever is killed on the way."""
