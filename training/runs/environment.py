"""The machine and the versions behind a number: without them no figure can be compared with another."""

import datetime
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from pclkd.sharding.common.processes import available_cpus

__all__ = ["describe_environment"]

_DALI_NAMES = ("nvidia-dali-cuda130", "nvidia-dali-cuda120", "nvidia-dali-cuda110")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


def describe_environment() -> dict[str, str | int | float | None]:
    """Hardware, versions, commit and date, by name. None where something is absent or cannot be told.

    Keys: date_utc, python, torch, torchvision, dali, pclkd (versions), os, cpu, cores (that this process may use),
    memory_gib, gpu, gpu_count, gpu_memory_gib, gpu_driver, cuda, cudnn, git_commit (of the current folder, with "+"
    where tracked files differ from it).
    """
    return {
        "date_utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "torchvision": _version("torchvision"),
        # The distribution's record, not an import: importing DALI takes seconds.
        "dali": next((found for name in _DALI_NAMES if (found := _version(name))), None),
        "pclkd": _version("pclkd"),
        "os": _system(),
        "cpu": _cpu_model(),
        "cores": available_cpus(),
        "memory_gib": _memory_gib(),
        **_describe_gpu(),
        "git_commit": _git_commit(),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _system() -> str:
    """The distribution's name where the system tells it, and the kernel."""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}"


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [
        value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == "model name"
    ]
    return models[0] if models else platform.processor() or platform.machine() or None


def _memory_gib() -> float:
    """Main memory that this process can get: the machine's, or less where a container limits it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(_CGROUP_MEMORY.read_text())
    except (OSError, ValueError):  # no container, or "max"
        limit = installed
    return round(min(installed, limit) / 2**30, 1)


def _describe_gpu() -> dict[str, str | int | float | None]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return dict.fromkeys(("gpu", "gpu_memory_gib", "gpu_driver", "cuda", "cudnn"), None) | {"gpu_count": 0}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "gpu_count": count,
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "gpu_driver": _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }


def _git_commit() -> str | None:
    commit = _first_line("git", "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _first_line("git", "status", "--porcelain", "--untracked-files=no")
    return commit + ("+" if changed else "")


def _first_line(*command: str) -> str | None:
    """What a program says; None where it is not installed, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0] or None
