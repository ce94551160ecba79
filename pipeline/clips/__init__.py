"""Which frames, with which random parameters: sample ids and frame counts in, a clip plan out. Pure arithmetic."""
