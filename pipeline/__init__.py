"""The clip pipeline: order, sampling, range reads, DALI, augmentation, pretext transforms."""

__all__: list[str] = []
