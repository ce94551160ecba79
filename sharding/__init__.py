"""Sharding: videos of any action data set in, shards with an index and a manifest out.

    datasets/      which videos there are, and of which class and split each is
    video/         one file -> frames in display order, at the stored size
    shards/        the format: tars, samples, the memory-mapped index, the manifest, and its check
    packing/       a plan of shards -> tasks -> shards -> one whole set, on any number of processes or hosts
    inspection/    what is in a set: statistics, quality, pictures
    synth/         the embedded data set: rendered actions
    common/        what every package uses: errors, files, storage, processes, the console

`__init__.pyi` lists the public names. They load their modules when first used: `--help` waits for no video decoder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
