"""Is this machine fit to train: a machine and a folder in; of each check a verdict, a figure and a remedy out."""
