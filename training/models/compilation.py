"""torch.compile where it wins: the backbone eager, compiled, or compiled into CUDA graphs.

The module is compiled in place, so weights keep their names and checkpoints do not know of it.
"""

import copy
import gc
import logging
import time

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.distributed import agreed
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import Compile
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.races import race_key, recalled, remembered

__all__ = ["compile_backbone", "timed_passes"]


_MODES: dict[str, str] = {"on": "default", "cuda-graphs": "reduce-overhead"}
_TURNS = 5
_log = logging.getLogger(__name__)


def compile_backbone(
    model: PclModel, how: Compile, clips: torch.Tensor, precision: Precision, *, trained: bool = True
) -> str:
    """Compile a model's backbone as asked.

    Args:
        model: on its device; its backbone is compiled in place. One that is not trained is in eval mode.
        how: "auto" races eager, compiled and CUDA graphs on a GPU and keeps what is fastest in the first process, or
            what an equal race there found before (`races`); on the CPU it stays eager, because compiling takes longer
            than it saves in a short run.
        clips: [N, 3, T, H, W] on the device, of the shape that training has.
        precision: of the run.
        trained: whether it gets gradients. A teacher is asked in inference mode; it never gets CUDA graphs ("on" takes
            their place), because what it says has to outlast the student's next graph.

    Returns:
        What is used: "off", "on" or "cuda-graphs".

    Raises:
        InputError: compiling fails although it was asked for, or CUDA graphs without a GPU.
    """
    if how == "cuda-graphs" and not trained:
        how = "on"
    if how == "cuda-graphs" and clips.device.type != "cuda":
        raise InputError("compile=cuda-graphs needs a GPU, and this process has none", remedy="--set compile=auto")
    if how == "off" or (how == "auto" and clips.device.type != "cuda"):
        return "off"
    if model.grid_adapters or model.gives_grid:
        return "off"  # asked for local features it goes another way than the compiled one
    if how != "auto":
        try:
            timed_passes(model, how, clips, precision, turns=1, trained=trained)
        except Exception as error:
            raise InputError(
                f"compile={how} fails here: {_reason(error)}",
                remedy="--set compile=off, or install a C++ compiler that torch can use",
            ) from error
        _compile(model, how)
        return how
    chosen = _raced(model, clips, precision, trained=trained)
    if chosen != "off":
        _compile(model, chosen)
    return chosen


def _raced(model: PclModel, clips: torch.Tensor, precision: Precision, *, trained: bool) -> str:
    """The fastest one in the first process, now or in an equal race before."""
    key = race_key(model, clips, precision, trained=trained)
    known = agreed("a race of compile=auto before", lambda: recalled(key))
    if known:
        _log.info("compile=auto of %s: using %s, as a race before found", _whose(trained), known)
        return known
    # All processes race, because synchronised batch norm needs them all; times differ, and what is compiled must not.
    times = _times(model, clips, precision, trained=trained)
    fastest = min(times, key=lambda name: times[name])
    chosen = agreed("the race of compile=auto", lambda: remembered(key, fastest, times))
    if "cuda-graphs" in times and chosen != "cuda-graphs":
        # What was compiled outlives the trial, and its graphs keep the memory of a whole step.
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
    return chosen


def _whose(trained: bool) -> str:
    return "the student" if trained else "a teacher"


def _times(model: PclModel, clips: torch.Tensor, precision: Precision, *, trained: bool) -> dict[str, float]:
    times = {}
    # Eager last: the loader reads and decodes its first batches meanwhile, and is through with them by then.
    for candidate in ("on", "cuda-graphs", "off") if trained else ("on", "off"):
        try:
            times[candidate] = timed_passes(model, candidate, clips, precision, turns=_TURNS, trained=trained)
        except Exception as error:  # whatever a compiler stumbles over, eager goes on
            _log.warning("compile=%s fails here: %s", candidate, _reason(error))
    told = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in times.items())
    _log.info("compile=auto of %s: %s", _whose(trained), told)
    return times


def _compile(model: PclModel, how: str) -> None:
    """One version for each shape: after a second shape torch would compile slower ones for any number of clips."""
    from torch import _dynamo

    # Student, teachers, evaluations and a benchmark's lines share one code; of more than 8 versions torch runs the
    # further ones eager, silently.
    _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, 64)
    model.base_network.compile(mode=_MODES[how], dynamic=False)


def timed_passes(
    model: PclModel, how: str, clips: torch.Tensor, precision: Precision, *, turns: int, trained: bool
) -> float:
    """Seconds that forward (and backward, if trained) of a copy take, the least of `turns` after two to warm up."""
    trial = copy.deepcopy(model)  # batch norm and gradients of the real one stay as they are
    if how != "off":
        _compile(trial, how)
    best = float("inf")
    for turn in range(turns + 2):
        began = time.perf_counter()
        with torch.inference_mode(not trained), precision.autocast():
            features = trial.base_network(clips)
        if trained:
            # As in a step: gradients of the turn before lie in a graph's memory, and adding to them fails.
            trial.zero_grad(set_to_none=True)
            features.float().square().mean().backward()
        if clips.device.type == "cuda":
            torch.cuda.synchronize(clips.device)
        if turn >= 2:
            best = min(best, time.perf_counter() - began)
    return best


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
