"""What is learned: a batch and what the networks say about it in, named losses out."""
