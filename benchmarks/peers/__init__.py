"""The loader beside what people write without it: the same clips in, clips a second of each out."""
