"""Benchmarks: how fast each part is, beside its bound and beside what people use else.

measuring/    interleaved rounds, medians and intervals, bounds, result files, charts
packing/      shard-ucf101 pack
loading/      the loader
peers/        the loader beside other loaders
steps/        a training step, what the teacher costs, training end to end
growth/       larger data sets
processes/    more processes
operators/    DALI's operators beside references
suite/        all of them within a given time
"""
