"""How anything is measured here: cases in; interleaved rounds, medians with intervals, result files and charts out."""
