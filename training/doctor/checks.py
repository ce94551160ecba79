"""All checks by name, in the order in which they are made: what is quick and what others rest on comes first."""

from pclkd.training.doctor.computing import check_convolutions, check_gloo, check_nccl, check_resume
from pclkd.training.doctor.disk import check_locks, check_rename, check_space, check_sync, check_write_speed
from pclkd.training.doctor.examination import Check
from pclkd.training.doctor.limits import (
    check_clock,
    check_gpus,
    check_load,
    check_open_files,
    check_shared_memory,
    check_versions,
)
from pclkd.training.doctor.pixels import check_augmentation, check_decoding

__all__ = ["CHECKS"]

CHECKS: dict[str, Check] = {
    "gpus": check_gpus,
    "versions": check_versions,
    "load": check_load,
    "open files": check_open_files,
    "shared memory": check_shared_memory,
    "space": check_space,
    "rename": check_rename,
    "fsync": check_sync,
    "write speed": check_write_speed,
    "locks": check_locks,
    "decode": check_decoding,
    "augmentation": check_augmentation,
    "convolutions": check_convolutions,
    "all-reduce": check_gloo,
    "all-reduce GPU": check_nccl,
    "resume": check_resume,
    "clock": check_clock,
}
"""By the name that the command shows."""
