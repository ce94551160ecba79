"""The embedded data set: settings in, rendered videos of eight actions with split lists out."""
