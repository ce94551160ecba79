"""Where to decode: a short race between the CPU and nvJPEG on the first batch."""

import dataclasses
import logging
import time
from typing import Literal

import torch

from pclkd.pipeline.dali import FrameDecoder, FrameGraph
from pclkd.pipeline.prepare import PreparedBatch

__all__ = ["choose_decoder"]

_ROUNDS = 3
_log = logging.getLogger(__name__)


def choose_decoder(graph: FrameGraph, probe: PreparedBatch) -> FrameDecoder:
    """Decode `probe` a few times each way and keep the faster decoder.

    Args:
        graph: the graph; its `decode` is replaced.
        probe: a batch of the data set.

    Returns:
        A decoder that is warm.
    """
    modes: list[Literal["cpu", "mixed"]] = ["cpu", "mixed"]
    decoders = {mode: FrameDecoder(dataclasses.replace(graph, decode=mode)) for mode in modes}
    best = dict.fromkeys(modes, float("inf"))
    for _ in range(_ROUNDS):  # the first round warms up; interleaved, so that a busy moment hits both
        for mode, decoder in decoders.items():
            began = time.perf_counter()
            decoder.decode(probe.jpegs, probe.plan.augment)
            if graph.device.type == "cuda":
                torch.cuda.synchronize(graph.device)
            best[mode] = min(best[mode], time.perf_counter() - began)
    chosen = min(modes, key=lambda mode: best[mode])
    rates = ", ".join(f"{mode} {graph.frames / seconds:.0f} frames/s" for mode, seconds in best.items())
    _log.info("decode=auto: %s; using %s", rates, chosen)
    return decoders[chosen]
