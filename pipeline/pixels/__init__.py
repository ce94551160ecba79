"""Frames to tensors.

JPEG bytes and parameters in; decoded, augmented, normalised clips on the device out. The only room that knows DALI.
"""
