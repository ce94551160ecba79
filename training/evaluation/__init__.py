"""What a network has learned: a network and a shard set in; accuracies in percent out."""
