"""The step: do precisions and seeds learn alike, how fast is it with each choice, and where its time goes."""

import dataclasses
import math
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile

from pclkd.benchmarks.gpu.bench import Bench
from pclkd.benchmarks.gpu.rows import LeftOutError, Value
from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.measuring.counters import count_operations, peak_tflop_per_s
from pclkd.benchmarks.steps.case import UCF101_ROWS, StepNetworks, memory_in_use, peak_memory, random_batch, repeated
from pclkd.benchmarks.steps.lines import step_lines
from pclkd.benchmarks.steps.teacher import frozen_teacher
from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.console import text_columns
from pclkd.sharding.common.files import write_text
from pclkd.training.compute.settings import Compile

__all__ = ["COMPILED", "compiled", "compiled_row", "losses", "step", "untuned"]

_SEEDS = (0, 1)
_PRECISIONS = ("fp32", "bf16")
_BATCHES = 8  # that are learned by heart
_KERNELS = 25
_NAME = 120  # characters of a kernel's
_PROFILED = 3  # steps
_STEPS = 4  # between two waits for the GPU
_EAGER = "eager"
COMPILED: tuple[Compile, ...] = ("on", "cuda-graphs")


def losses(bench: Bench) -> None:
    """The loss of every step of runs that differ by precision or seed alone, and how far they are apart."""
    take = bench.take
    for seed in _SEEDS:
        for precision in _PRECISIONS:
            take(f"{precision}_seed_{seed}", _learned, precision, seed, needs_gpu=precision != "fp32")
    take("compared", _compared)


def _learned(bench: Bench, precision: str, seed: int) -> dict[str, Value]:
    """A student learns the same few batches of noise by heart; its teacher has other weights."""
    size, steps = bench.sizes.compared
    shape = ClipShape(size, bench.sizes.shape.frames, bench.sizes.shape.side)
    rows = _BATCHES * size
    batches = [
        dataclasses.replace(
            random_batch(shape, rows, bench.device, seed=number),
            sample_index=torch.arange(number * size, (number + 1) * size, device=bench.device),
        )
        for number in range(_BATCHES)
    ]
    torch.manual_seed(seed)
    networks = bench.networks(precision=precision)
    taken = networks.build(batches[0], rows, distil=True)
    told = torch.stack([taken(batches[number % _BATCHES])["loss"] for number in range(steps)])
    return {"loss": [round(value, 5) for value in told.tolist()]}


def _compared(bench: Bench) -> dict[str, Value]:
    """Means over the last quarter, relative to that of fp32 and the first seed."""
    ends = {}
    for precision in _PRECISIONS:
        for seed in _SEEDS:
            curve = bench.rows.found(f"losses/{precision}_seed_{seed}").get("loss")
            if not isinstance(curve, list):
                raise LeftOutError(f"there is no curve of {precision}, seed {seed}")
            broken = sum(not math.isfinite(value) for value in curve)
            if broken and bench.device.type == "cuda":  # bf16 is known to be wrong on some CPUs
                raise ArithmeticError(f"{broken} losses of {precision}, seed {seed}, are not finite")
            ends[precision, seed] = statistics.mean(curve[-max(1, len(curve) // 4) :])
    base = ends["fp32", 0]
    apart = {f"bf16_apart_seed_{seed}_pct": 100 * abs(ends["bf16", seed] / ends["fp32", seed] - 1) for seed in _SEEDS}
    return {"last_quarter": base, **apart, "seeds_apart_pct": 100 * abs(ends["fp32", 1] / base - 1)}


def step(bench: Bench) -> None:
    """PCL+KD on clips that stay on the device: by option, by batch, with and without its teacher, by kernel."""
    take, sizes, device = bench.take, bench.sizes, bench.device
    take("operations", _operations)
    trained, usual = bench.networks(), sizes.shape.batch_size
    take(_EAGER, _timed, trained, usual)
    take("eager_without_teacher", _timed, trained, usual, distil=False)
    take("teacher_forward", _teacher, trained)
    take("teacher_cost", _teacher_cost)
    take("kernels", _profiled, trained)
    lines = step_lines(trained, device, fused=device.type == "cuda", quick=False).changed
    for name, networks in lines.items():
        if networks.options.compile == "off":
            take(name, _timed, networks, usual, needs_gpu=name in {"bf16", "fp16"})
    for batch in sizes.batches:
        take(f"eager_batch_{batch}", _timed, trained, batch)


def compiled(bench: Bench) -> None:
    """The same step compiled; a process of its own, for compilers take their time."""
    sizes = bench.sizes
    for how in COMPILED:
        networks = bench.networks(compile=how)
        for size in (sizes.shape.batch_size, sizes.batches[-1]):
            bench.take(compiled_row(how, size), _timed, networks, size, needs_gpu=True)


def compiled_row(how: Compile, size: int) -> str:
    """The name of its row."""
    return f"{how}_batch_{size}"


def untuned(bench: Bench) -> None:
    """The step without cuDNN's trials, in a process that never made any: their outcome is kept for a whole process."""
    _ = bench.device  # turns the trials on
    torch.backends.cudnn.benchmark = False
    networks, size = bench.networks(), bench.sizes.shape.batch_size
    bench.take("cudnn_trials_off", _timed, networks, size)


def _batch(bench: Bench, size: int) -> ClipBatch:
    shape = ClipShape(size, bench.sizes.shape.frames, bench.sizes.shape.side)
    return random_batch(shape, max(UCF101_ROWS, size), bench.device)


def _operations(bench: Bench) -> dict[str, Value]:
    """TFLOP a sample, which no option changes."""
    networks, size = bench.networks(), min(4, bench.sizes.shape.batch_size)
    batch = _batch(bench, size)
    found: dict[str, Value] = {
        name: networks.count(batch, UCF101_ROWS, distil=distil) / size
        for name, distil in (("pcl_kd_tflop", True), ("pcl_tflop", False))
    }
    forward = frozen_teacher(networks.varied(gpu_forms="off"), batch)
    return {**found, "teacher_tflop": count_operations(lambda: forward(batch)) / size}


def _timed(bench: Bench, networks: StepNetworks, size: int, *, distil: bool = True) -> dict[str, Value]:
    batch, device = _batch(bench, size), bench.device
    before = memory_in_use(device)
    taken = networks.build(batch, max(UCF101_ROWS, size), distil=distil)
    memory = peak_memory(lambda: taken(batch), before, device)
    found = bench.rate(repeated(taken, batch, options=networks.options, steps=_STEPS), "samples_per_s")
    found |= {"batch_size": float(size), **memory}
    return found | _used(bench, taken.precision.name, found["samples_per_s"], "pcl_kd" if distil else "pcl")


def _used(bench: Bench, precision: str, samples_per_s: Value, work: str) -> dict[str, Value]:
    """How much of the device that is: of its measured matrix rate, and of its data sheet's peak."""
    each = bench.rows.number("step/operations", f"{work}_tflop")
    if each is None or not isinstance(samples_per_s, float):
        return {}
    reached = each * samples_per_s
    found: dict[str, Value] = {"tflop_per_s": reached}
    limits = {
        "mfu_pct": bench.rows.number(f"health/matrix_{precision}", "tflop_per_s"),
        "of_data_sheet_pct": peak_tflop_per_s(bench.device, precision),
    }
    return found | {name: 100 * reached / limit for name, limit in limits.items() if limit}


def _teacher(bench: Bench, networks: StepNetworks) -> dict[str, Value]:
    batch = _batch(bench, bench.sizes.shape.batch_size)
    found = bench.rate(repeated(frozen_teacher(networks, batch), batch, steps=_STEPS), "samples_per_s")
    return found | _used(bench, networks.precision(bench.device).name, found["samples_per_s"], "teacher")


def _teacher_cost(bench: Bench) -> dict[str, float]:
    """By how much longer a step takes with its teacher, beside by how much more it computes."""
    number = bench.rows.number
    rates = number(f"step/{_EAGER}", "samples_per_s"), number("step/eager_without_teacher", "samples_per_s")
    work = number("step/operations", "pcl_kd_tflop"), number("step/operations", "pcl_tflop")
    if None in rates or None in work:
        raise LeftOutError("the step was not timed with and without a teacher")
    (taught, alone), (more, less) = rates, work
    overhead, share = 100 * (alone / taught - 1), 100 * (more / less - 1)  # type: ignore[operator]
    return {"overhead_pct": overhead, "flop_share_pct": share, "overhead_over_flop_share": overhead / share}


def _profiled(bench: Bench, networks: StepNetworks) -> dict[str, Value]:
    """A trace of a few steps, and the kernels (on a CPU the operators) that take the most of them."""
    batch, device = _batch(bench, bench.sizes.shape.batch_size), bench.device
    taken = networks.build(batch, UCF101_ROWS, distil=True)
    for _ in range(2):
        taken(batch)
    synchronise(device)
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        began = time.perf_counter()
        for _ in range(_PROFILED):
            taken(batch)
        synchronise(device)
        wall_ms = 1000 * (time.perf_counter() - began) / _PROFILED
    profiled.export_chrome_trace(str(bench.out / "trace.json.gz"))
    kernels = [
        ((event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000 / _PROFILED, event)
        for event in profiled.key_averages()
        # Spans that torch names on the GPU, such as the optimizer's step, hold kernels that are counted already.
        if event.device_type.name == device.type.upper() and not getattr(event, "is_user_annotation", False)
    ]
    kernels.sort(key=lambda kernel: -kernel[0])
    total = sum(ms for ms, _ in kernels)
    rows = [["kernel", "ms a step", "share", "calls a step"]]
    for ms, event in kernels[:_KERNELS]:
        share, calls = f"{100 * ms / total:.1f} %", f"{event.count / _PROFILED:.0f}"
        rows.append([event.key[:_NAME], f"{ms:.3f}", share, calls])
    write_text(bench.out / "kernels.txt", text_columns(rows) + "\n")
    first = {f"top_{number}": f"{row[2]} {row[0][:60]}" for number, row in enumerate(rows[1:6], 1)}
    launched = sum(event.count for _, event in kernels) / _PROFILED
    return {"wall_ms_per_step": wall_ms, "busy_pct": 100 * total / wall_ms, "launches_per_step": launched, **first}
