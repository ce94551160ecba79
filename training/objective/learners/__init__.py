"""Learners beside PCL, to compare with: each a term whose loss is lightly's, about the first and the third clip."""
