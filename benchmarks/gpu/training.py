"""Whole runs: does a stopped one go on as if it had not been, how fast is training, and a run for the time left."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pclkd.benchmarks.gpu.bench import Bench
from pclkd.benchmarks.gpu.health import contexts
from pclkd.benchmarks.gpu.rows import LeftOutError, Value
from pclkd.benchmarks.gpu.steps import COMPILED, compiled_row
from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.steps.case import UCF101_ROWS
from pclkd.benchmarks.steps.train import TrainBenchmark
from pclkd.training.compute.settings import Compile
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.preemption import PreemptedError
from pclkd.training.loop.trainer import train
from pclkd.training.runs.run_folder import METRICS_NAME, read_run

__all__ = ["resume", "training"]

_METRICS_COPY = "kd-metrics.jsonl"
_END_S = 10.0  # that the last run needs to save and to be told
_LEAST_S = 20.0  # less is no run


def resume(bench: Bench) -> None:
    """The losses of a run that was stopped and gone on with, beside one that was not, and beside the same once more."""
    steps = bench.sizes.resumed
    for name, stops in (("straight", [steps]), ("again", [steps]), ("resumed", [steps // 2, steps])):
        bench.take(name, _followed, name, stops)
    bench.take("compared", _compared)


def _followed(bench: Bench, name: str, stops: Sequence[int]) -> dict[str, Value]:
    """A run up to each of the steps in turn; its losses."""
    folder = bench.scratch / "resume" / name
    settings = bench.sizes.settings("compile=off", "epochs=1000")
    for stop in stops:
        train(plan_run(folder, bench.data, settings, resume=stop != stops[0], max_steps=stop))
    return {"loss": [float(line["loss"]) for line in read_run(folder).steps]}


def _compared(bench: Bench) -> dict[str, Value]:
    """The largest relative difference of a step's loss; what two straight runs differ by is no matter of the stop."""
    curves = [bench.rows.found(f"resume/{name}").get("loss") for name in ("straight", "again", "resumed")]
    straight, again, resumed = (curve if isinstance(curve, list) else [] for curve in curves)
    if not straight or not len(straight) == len(again) == len(resumed):
        raise LeftOutError("the three runs did not all come to their end")
    apart = [max(abs(a / b - 1) for a, b in zip(other, straight, strict=True)) for other in (resumed, again)]
    return {"resumed_apart_pct": 100 * apart[0], "again_apart_pct": 100 * apart[1], "steps": float(len(straight))}


def training(bench: Bench) -> None:
    """Training end to end beside the step and the loader alone, and distillation for as long as there is time."""
    bench.take("end_to_end", _end_to_end)
    bench.take("contexts", contexts)
    bench.take("teacher", _taught)
    bench.take("kd", _distilled)


def _fastest(bench: Bench) -> Compile:
    """Eager, or the compiled step that was faster; in a dry run it is not the clock that decides."""
    size, number = bench.sizes.shape.batch_size, bench.rows.number
    rates = {how: number(f"compiled/{compiled_row(how, size)}", "samples_per_s") or 0.0 for how in COMPILED}
    best = max(COMPILED, key=lambda how: rates[how])
    return best if rates[best] > (0.0 if bench.dry else number("step/eager", "samples_per_s") or 0.0) else "off"


def _end_to_end(bench: Bench) -> dict[str, Value]:
    sizes, how = bench.sizes, _fastest(bench)
    benchmark = TrainBenchmark(bench.data, 1, bench.networks(compile=how), sizes.shape, sizes.epoch_steps, 0)
    result = benchmark.run(Session(2, 0.0))
    whole, loader = result["end_to_end"], result["loader_alone"]
    return {
        "samples_per_s": whole.median,
        "of_step_pct": 100 * whole.ratio,
        "of_smaller_side_pct": whole.of_bound_pct,
        "loader_samples_per_s": loader.median,
        "data_wait_pct": whole.extra["time/data_wait_pct"],
        "minutes_100_ucf101_epochs": 100 * UCF101_ROWS / whole.median / 60,
        "compile": how,
    }


def _taught(bench: Bench) -> dict[str, Value]:
    folder, settings = bench.scratch / "teacher", bench.sizes.settings("compile=off", "epochs=1000")
    train(plan_run(folder, bench.data, settings, max_steps=bench.sizes.teacher_steps))
    return _told(folder)


def _distilled(bench: Bench) -> dict[str, Value]:
    """Ends by the signal that a cluster would send, some seconds before the time is up."""
    room = bench.rows.left_s - _END_S
    if room < _LEAST_S:
        raise LeftOutError(f"{max(0.0, room):.0f} s were left")
    folder = bench.scratch / "kd"
    plan = plan_run(
        folder,
        bench.data,
        bench.sizes.settings(f"compile={_fastest(bench)}", "epochs=1000"),
        teachers=[bench.scratch / "teacher"],
        max_steps=bench.sizes.longest_run,
    )
    stop = threading.Timer(max(0.0, bench.rows.left_s - _END_S), os.kill, (os.getpid(), signal.SIGTERM))
    stop.daemon = True
    began = time.monotonic()
    stop.start()
    try:
        train(plan)
    except PreemptedError:
        pass
    finally:
        stop.cancel()
        if (folder / METRICS_NAME).exists():
            shutil.copy(folder / METRICS_NAME, bench.out / _METRICS_COPY)
    found = _told(folder)
    found["samples_per_s"] = bench.sizes.shape.batch_size * len(read_run(folder).steps) / (time.monotonic() - began)
    return found


def _told(folder: Path) -> dict[str, Value]:
    """The losses of the first and of the last step, and what the last epoch said of speed and memory."""
    record = read_run(folder)
    if not record.steps:
        raise LeftOutError("no step was done in the time that was left")
    first, last = record.steps[0], record.steps[-1]
    losses = {
        f"{name}_{when}": float(line[name])
        for name in first
        if isinstance(first[name], float) and "/" not in name
        for when, line in (("first", first), ("last", last))
        if name in line
    }
    epoch = record.epochs[-1] if record.epochs else {}
    speed = {name: float(value) for name, value in epoch.items() if name.startswith(("throughput/", "memory/"))}
    peak = {"memory/peak_gib": torch.cuda.max_memory_allocated() / 2**30} if torch.cuda.is_available() else {}
    return {"steps": float(len(record.steps)), **losses, **speed, **peak}
