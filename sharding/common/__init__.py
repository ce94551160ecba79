"""What every package uses: errors, settings, whole files, storage, worker processes, the console."""
