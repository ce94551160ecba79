"""What more processes bring: one training job in, its rate with 1, 2, 4 ... processes out."""
