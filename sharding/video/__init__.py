"""One video file in; its frames in display order, at the stored size, and whether all of them are there out."""
