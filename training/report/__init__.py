"""What came out: run folders in; curves, tables and one page out."""
