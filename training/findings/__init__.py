"""What a study found: its run folders in; figures 3 to 9, verdicts and tables as a page, pictures, CSV and text out."""
