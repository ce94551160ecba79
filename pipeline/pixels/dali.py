"""JPEG bytes to augmented frames, through NVIDIA DALI.

In this graph a sample is a frame. One batch is all frames of all clips, so a single image-decoder node sees all of
them at once (what nvJPEG wants), and every operator takes its parameters per frame: one draw a clip, repeated.

Traps met and kept away from: `exec_dynamic=True` so that a failing batch does not spoil the next ones and outputs
that are kept are not overwritten; no strided slices inside the graph; checksums before DALI sees a byte.
"""

import contextlib
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, backend, pipeline_def, tensors

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.device import exact
from pclkd.pipeline.pixels.dali_graph import plain_frames, resized_frames
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.frame_graph import (
    Colours,
    Decoding,
    FrameGraph,
    Inputs,
    UndecodableFramesError,
    channels_first,
    failing,
    inputs_of,
    levels_of,
    reason,
    rows_of,
)
from pclkd.pipeline.pixels.fused import FusedColours
from pclkd.pipeline.pixels.moments import FusedMoment, moment_of

__all__ = [
    "Colours",
    "Decoding",
    "FrameDecoder",
    "FrameGraph",
    "UndecodableFramesError",
    "one_batch",
    "release_unused_memory",
]


def _leave_to_the_parent() -> None:
    """In a fork: as it ends, DALI would wait for ever for its threads, which stayed with the parent."""
    pipelines: Any = getattr(Pipeline, "_pipes", set())
    for pipeline in [found for weak in pipelines if (found := weak()) is not None]:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline._pipe))  # never destroyed here
        pipeline._pipe = None
    pipelines.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)


class FrameDecoder:
    """A DALI pipeline that decodes, crops, changes colour, blurs, flips and normalises frames.

    `decode` does it all. Its three steps can be called one by one, so that DALI's threads (or the GPU) have the next
    batch before they are through with one, and decode while that one is finished: begin(0), begin(1), wait(0),
    finish(0), begin(2), wait(1), ...

    Attributes:
        graph: what it does.
        turn: of the thread that uses it: batches of two would be mixed.

    Raises:
        ValueError: fused colours on a GPU.
    """

    def __init__(self, graph: FrameGraph) -> None:
        if graph.colours == "fused" and graph.device.type != "cpu":
            raise ValueError("fused colours are for the CPU; on a GPU DALI's operators are part of the graph")
        self.graph, self.turn = graph, threading.Lock()
        self._fused = FusedColours(graph.crop, graph.threads) if graph.colours == "fused" else None
        self._kernels = None
        if graph.colours == "kernels":
            from pclkd.pipeline.pixels.kernels import KernelColours  # Triton need not be there

            self._kernels = KernelColours(graph.crop)
        self._moments = [FusedMoment(view, graph.crop[0], graph.threads) for view in graph.moments if self._fused]
        self._resizes = False
        self._pipeline = _build(graph, plain_frames)
        self._begun: deque[Decoding] = deque()  # and not waited for
        cuda = graph.device.type == "cuda"
        self._stream = torch.cuda.Stream(graph.device, priority=-1) if cuda else None  # type: ignore[no-untyped-call]

    def decode(
        self, jpegs: Sequence[NDArray[np.uint8]], augment: ClipAugment, finish: ClipFinish | None = None
    ) -> torch.Tensor:
        """Decode the frames of B * V clips, T each.

        Args:
            jpegs: B * V * T encoded frames, clip after clip.
            augment: parameters [B, V]; a clip's are used for all of its T frames.
            finish: what is done to the samples in the end.

        Returns:
            [B, V, C, T, H, W] float32 on the graph's device, normalised, in the memory order of channels_last_3d; the
            caller's alone.

        Raises:
            UndecodableFramesError: some JPEGs cannot be decoded or are smaller than their window. The batch is lost,
                the next one is not.
            RuntimeError: DALI failed at something else.
        """
        decoding = self.begin(jpegs, augment)
        self.wait(decoding)
        return self.finish(decoding, finish)

    def begin(self, jpegs: Sequence[NDArray[np.uint8]], augment: ClipAugment) -> Decoding:
        """Let DALI decode a batch in its own threads, after those begun before; arguments as in `decode`.

        Each takes memory until it is finished. Batches that nobody waits for are dropped in their turn.
        """
        height, width = self.graph.crop
        if not self._resizes and not ((augment.height == height) & (augment.width == width)).all():
            # Once is enough: the graph that resizes leaves windows of the clip's size as they are.
            self._resizes, self._pipeline = True, _build(self.graph, resized_frames)
        repeats = self.graph.frames // augment.flip.size
        inputs = {
            name: np.repeat(values, repeats, axis=0)
            for name, values in inputs_of(self.graph, augment, resizes=self._resizes).items()
        }
        _start(self._pipeline, jpegs, inputs)
        decoding = Decoding(jpegs, augment, inputs, self._pipeline, self._resizes)
        self._begun.append(decoding)
        return decoding

    def wait(self, decoding: Decoding) -> None:
        """Wait for DALI's part of a batch; errors as in `decode`."""
        while decoding in self._begun:
            self._take()
        if decoding.error is None:
            return
        error = decoding.error
        if "fn.decoders" not in str(error) or "CUDA" in reason(error):
            raise error  # not the data
        while self._begun:  # a pipeline tells its outputs in order, and is asked for others now
            self._take()
        jpegs, inputs = decoding.jpegs, decoding.inputs
        bad = failing(len(jpegs), lambda part: self._try(decoding.pipeline, *rows_of(jpegs, inputs, part)))
        if not bad:
            raise error
        raise UndecodableFramesError(bad, reason(error)) from error

    def finish(self, decoding: Decoding, finish: ClipFinish | None = None) -> torch.Tensor:
        """The clips of a batch that was waited for; see `decode`.

        On a GPU they are complete, and belong to a stream of the decoder's: a caller whose kernels are not waited for
        must `record_stream` them.
        """
        finish = finish or ClipFinish()
        if self._fused is not None:
            return channels_first(self._fused.apply(levels_of(decoding), decoding.augment, finish))
        with self._own_stream():
            if self._kernels is not None:  # new memory; DALI's is kept until the block ends
                levels: torch.Tensor = torch.utils.dlpack.from_dlpack(decoding.frames.as_tensor())
                return channels_first(self._kernels.apply(levels, decoding.augment, finish))
            return finish.batch(self._clips(decoding.frames, decoding))

    def finish_moments(self, decoding: Decoding, finish: ClipFinish | None = None) -> tuple[torch.Tensor, ...]:
        """The graph's further views of a batch that was waited for, [B, V, C, T', H', W'] each; as `finish`.

        Args:
            decoding: the batch.
            finish: the clips' own: its pretext transform is done, whether differences are taken says each view.
        """
        finish = finish or ClipFinish()
        if self._fused is not None:
            levels = levels_of(decoding) if self._moments else []
            each = self.graph.frames // decoding.augment.flip.size
            return tuple(moment.apply(levels, decoding.augment, finish, each) for moment in self._moments)
        plain = ClipFinish(finish.draw)
        with self._own_stream():
            return tuple(
                moment_of(plain.batch(self._clips(frames, decoding)), view)
                for frames, view in zip(decoding.others, self.graph.moments, strict=True)
            )

    def _clips(self, frames: Any, decoding: Decoding) -> torch.Tensor:
        """What the graph gave out, as clips [B, V, C, T, H, W], on the decoder's own stream."""
        tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(frames.as_tensor())
        if self._stream is not None:
            # DALI uses its buffers again in the order of its own streams, whatever torch's kernels still read.
            tensor = tensor.clone()
        return channels_first(tensor.view(*decoding.augment.flip.shape, -1, *tensor.shape[1:]))

    @contextlib.contextmanager
    def _own_stream(self) -> Iterator[None]:
        """On a GPU a stream beside that of the training, which nothing here waits for; done when the block ends."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def close(self) -> None:
        """End all threads."""
        self._begun.clear()  # DALI ends what it has begun; as the program ends, its pipelines may be gone by now
        for part in (self._fused, *self._moments):
            if part is not None:
                part.close()

    def _try(self, pipeline: Any, jpegs: Sequence[NDArray[np.uint8]], inputs: Inputs) -> None:
        """Whether the pipeline takes a batch."""
        _start(pipeline, jpegs, inputs)
        _outputs(pipeline, self._stream)

    def _take(self) -> None:
        """Wait for the batch that was begun the longest ago, and keep what came of it."""
        first = self._begun.popleft()
        try:
            first.frames, *first.others = _outputs(first.pipeline, self._stream)
        except RuntimeError as error:
            first.error = error


def release_unused_memory() -> None:
    """Give memory back that DALI's pools keep for graphs that are gone."""
    backend.ReleaseUnusedMemory()  # type: ignore[attr-defined]


def _build(graph: FrameGraph, define: Callable[[FrameGraph], Any]) -> Any:
    device_id = exact(graph.device).index if graph.device.type == "cuda" else None
    pipeline = pipeline_def(
        batch_size=graph.frames,
        num_threads=graph.threads,
        device_id=device_id,
        prefetch_queue_depth=1,
        exec_dynamic=True,
    )(define)(graph)
    pipeline.build()
    return pipeline


def _start(pipeline: Any, jpegs: Sequence[NDArray[np.uint8]], inputs: Inputs) -> None:
    """Feed a batch; the pipeline works on it from here on."""
    for name, values in inputs.items():
        pipeline.feed_input(name, values)
    pipeline.feed_input("jpeg", one_batch(jpegs))
    pipeline.schedule_run()


def one_batch(jpegs: Sequence[NDArray[np.uint8]]) -> Any:
    """Encoded frames of any lengths in the form that `feed_input` takes as a whole.

    A list of arrays it would look through in Python, frame by frame, while no other thread of the program runs. DALI
    copies the bytes when it is fed, so that none of its threads ever waits to let go of a Python object.
    """
    frames: Any = tensors  # its stubs know other arguments
    return frames.TensorListCPU([frames.TensorCPU(jpeg, "") for jpeg in jpegs], "", contiguous=False)


def _outputs(pipeline: Any, stream: torch.cuda.Stream | None) -> Any:
    """The outputs of a batch, complete: GPU memory that is only promised is waited for on the decoder's own stream.

    The hardware JPEG decoder returns before its pixels are there; what goes wrong with them is raised here as well.
    """
    if stream is None:
        return pipeline.outputs()
    outputs = pipeline.outputs(cuda_stream=stream)
    stream.synchronize()
    return outputs
