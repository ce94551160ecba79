"""What the system grants: open files, shared memory, a clock, GPUs, libraries, processors to itself."""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement

from pclkd.sharding.common.processes import available_cpus
from pclkd.training.compute.neighbours import Neighbours, crowded
from pclkd.training.doctor.examination import Machine, Outcome, judged

__all__ = [
    "check_clock",
    "check_gpus",
    "check_load",
    "check_open_files",
    "check_shared_memory",
    "check_versions",
]

_LEAST_FILES, _USUAL_FILES = 64, 1024  # the loader keeps to a quarter of what is allowed, and 128 shards at most
_NCCL_MIB, _USUAL_MIB = 64, 1024
_RELEASED = 2026
_DRIFT_S = 0.1
_LOOK_S = 1.0
_DALI = "nvidia-dali-cuda"


def check_open_files(machine: Machine, limit: int | None = None) -> Outcome:  # noqa: ARG001
    """Files that a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = soft if limit is None else limit
    remedy = f"ulimit -n {_USUAL_FILES} before the run (the system allows {hard})"
    return judged(f"{limit} may be open", fails=limit < _LEAST_FILES, warns=limit < _USUAL_FILES, remedy=remedy)


def check_shared_memory(machine: Machine, place: Path = Path("/dev/shm"), gpus: int | None = None) -> Outcome:  # noqa: ARG001
    """Free bytes: NCCL goes through it between the GPUs of a machine, and the Ray engine; the loader needs none."""
    gpus = torch.cuda.device_count() if gpus is None else gpus
    mib = shutil.disk_usage(place).free / 2**20 if place.is_dir() else 0.0
    return judged(
        f"{mib:.0f} MiB free in {place}",
        fails=gpus > 1 and mib < _NCCL_MIB,
        warns=mib < (_USUAL_MIB if gpus > 1 else _NCCL_MIB),
        remedy="give the container more (docker run --shm-size=1g), or NCCL_SHM_DISABLE=1; one GPU needs none",
    )


def check_clock(machine: Machine, now: tuple[float, float] | None = None) -> Outcome:
    """Wall clock beside the monotonic one, since the examination began."""
    monotonic, wall = (time.monotonic(), time.time()) if now is None else now
    lasted = monotonic - machine.began[0]
    drift = wall - machine.began[1] - lasted
    date = datetime.fromtimestamp(wall, UTC)
    figure = f"{date:%Y-%m-%d %H:%M} UTC; {drift:+.3f} s beside the monotonic clock in {lasted:.0f} s"
    remedy = "set the clock (chrony, ntpd): object stores refuse requests of a wrong time, and make goes by it"
    return judged(figure, fails=date.year < _RELEASED, warns=abs(drift) > _DRIFT_S, remedy=remedy)


def check_versions(
    machine: Machine,  # noqa: ARG001
    version: Callable[[str], str] = metadata.version,
    wanted: Sequence[str] | None = None,
) -> Outcome:
    """Installed libraries beside the versions that this package asks for, those of its optional parts too."""
    lacking, old, count = [], [], 0
    for requirement in map(Requirement, (metadata.requires("pclkd") or ()) if wanted is None else wanted):
        optional = "extra" in str(requirement.marker or "")
        try:
            found = version(requirement.name)
        except metadata.PackageNotFoundError:
            if not optional and not (requirement.name.startswith(_DALI) and _other_dali(version)):
                lacking.append(str(requirement))
            continue
        count += 1
        if not requirement.specifier.contains(found, prereleases=True):
            old.append((f"{requirement.name} {found}, not {requirement.specifier}", optional))
    wrong = [*lacking, *(text for text, optional in old if not optional)]
    doubtful = [text for text, optional in old if optional]
    told = [*(f"missing {text}" for text in lacking), *(text for text, _ in old)]
    figure = "; ".join(told) if told else f"{count} libraries; torch {torch.__version__}"
    remedy = "pip install --upgrade --constraint constraints.txt ."
    return judged(figure, fails=bool(wrong), warns=bool(doubtful), remedy=remedy)


def _other_dali(version: Callable[[str], str]) -> bool:
    try:
        return bool(version("nvidia-dali-cuda120"))
    except metadata.PackageNotFoundError:
        return False


def check_gpus(machine: Machine, seen: int | None = None, listed: Callable[[], int] | None = None) -> Outcome:  # noqa: ARG001
    """GPUs that torch sees, beside those of the driver."""
    seen = torch.cuda.device_count() if seen is None else seen
    there = (listed or _listed_gpus)()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and seen < there:
        return Outcome("ok", f"torch sees {seen} of {there}: CUDA_VISIBLE_DEVICES={hidden}")
    return judged(
        f"torch sees {seen} of {there}" if there or seen else "none: networks run on the CPU",
        fails=seen < there,
        remedy=f"a driver for CUDA {torch.version.cuda or 'of some version'}, or a torch build for the driver's CUDA",
    )


def _listed_gpus() -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    told = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=20, check=False).stdout
    return sum(line.startswith("GPU ") for line in told.splitlines())


def check_load(machine: Machine, busy: Callable[[], float] | None = None, threads: int | None = None) -> Outcome:  # noqa: ARG001
    """Processors that other programs keep busy: OpenMP's threads wait for the slowest of them."""
    others = (busy or _busy)()
    threads = torch.get_num_threads() if threads is None else threads
    return judged(
        f"other programs keep {others:.1f} of {available_cpus()} processors busy, this one has {threads} threads",
        warns=crowded(others, threads),
        remedy="OMP_WAIT_POLICY=passive, OMP_NUM_THREADS=1, or wait for them: a step takes several times as long",
    )


def _busy() -> float:
    neighbours = Neighbours()
    time.sleep(_LOOK_S)
    return neighbours.busy_cores()
