"""Where the loader's time goes, stage by stage, and which stage holds the trainer up."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LoaderStatistics", "StageReport"]

_KEEPS_UP_PCT = 5.0  # a trainer that waits less than this is not held up by the loader
_MIB = 2**20


@dataclass(frozen=True)
class StageReport:
    """What the loader did in a stretch of time.

    A stage's share is the part of the time that its threads were busy: near 100 % it can do no more.

    Attributes:
        seconds: length of the stretch.
        read_pct: share of the reader threads' time spent on range reads.
        checksum_pct: the same, on CRC-32.
        decode_pct: share of the time that batches were decoded, augmented and finished.
        wait_pct: share of the time that the trainer stood still for lack of a batch.
        read_mib_per_s: bytes read from shards (or their local copies), in MiB/s.
        fetched_mib_per_s: bytes that came over the network, in MiB/s.
        frames_per_s: frames delivered.
        clips_per_s: clips delivered.
        starving: the stage that the others wait for: "read", "checksum" or "decode"; "none" where the loader keeps up.
    """

    seconds: float
    read_pct: float
    checksum_pct: float
    decode_pct: float
    wait_pct: float
    read_mib_per_s: float
    fetched_mib_per_s: float
    frames_per_s: float
    clips_per_s: float
    starving: str

    def tags(self) -> dict[str, float]:
        """The figures by their tag in TensorBoard and metrics.jsonl; units stand in the tags."""
        return {
            "time/data_wait_pct": self.wait_pct,
            "time/loader_read_pct": self.read_pct,
            "time/loader_checksum_pct": self.checksum_pct,
            "time/loader_decode_pct": self.decode_pct,
            "throughput/read_mib_per_s": self.read_mib_per_s,
            "throughput/fetched_mib_per_s": self.fetched_mib_per_s,
            "throughput/frames_per_s": self.frames_per_s,
        }

    def __str__(self) -> str:
        held = "" if self.starving == "none" else f" (for {self.starving})"
        return (
            f"{self.clips_per_s:.1f} clips/s, read {self.read_mib_per_s:.1f} MiB/s {self.read_pct:.0f}%, "
            f"checksum {self.checksum_pct:.0f}%, decode {self.decode_pct:.0f}%, "
            f"wait {self.wait_pct:.0f}%{held}"
        )


@dataclass
class LoaderStatistics:
    """Sums since the loader was made; times in seconds, each stage on its own clock.

    Attributes:
        readers: reader threads.
        read_s: range reads, summed over the reader threads.
        checksum_s: CRC-32, summed over the reader threads.
        decode_s: decoding, augmentation, pretext transforms and residuals.
        wait_s: time the consumer stood still for lack of a batch.
        reads: range reads, of one frame or of several that lie together.
        bytes_read: bytes read from the shards or from local copies of their pieces.
        bytes_fetched: bytes that came over the network.
        frames: frames delivered.
        clips: clips delivered.
        samples: entries of the order that were drawn and dealt with, damaged ones included.
        quarantined: drawn samples that could not be delivered; each was replaced in training, left out in evaluation.
            A sample is drawn once an epoch, by one process, so sums over processes are exact.
        damaged_reads: attempts that failed, those of replacements included.
    """

    readers: int = 1
    read_s: float = 0.0
    checksum_s: float = 0.0
    decode_s: float = 0.0
    wait_s: float = 0.0
    reads: int = 0
    bytes_read: int = 0
    bytes_fetched: int = 0
    frames: int = 0
    clips: int = 0
    samples: int = 0
    quarantined: int = 0
    damaged_reads: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **amounts: float) -> None:
        """Add to the named sums; safe from several threads."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def as_dict(self) -> dict[str, float]:
        """The sums by name."""
        with self._lock:
            return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def since(self, before: Mapping[str, float], seconds: float) -> StageReport:
        """What was done since `before`, an earlier `as_dict`, `seconds` ago."""
        now = self.as_dict()
        seconds = max(seconds, 1e-9)
        done = {name: (now[name] - before[name]) / seconds for name in now}
        busy = {
            "read": 100 * done["read_s"] / self.readers,
            "checksum": 100 * done["checksum_s"] / self.readers,
            "decode": 100 * done["decode_s"],
        }
        wait = 100 * done["wait_s"]
        return StageReport(
            seconds=seconds,
            read_pct=busy["read"],
            checksum_pct=busy["checksum"],
            decode_pct=busy["decode"],
            wait_pct=wait,
            read_mib_per_s=done["bytes_read"] / _MIB,
            fetched_mib_per_s=done["bytes_fetched"] / _MIB,
            frames_per_s=done["frames"],
            clips_per_s=done["clips"],
            starving=max(busy, key=lambda name: busy[name]) if wait >= _KEEPS_UP_PCT else "none",
        )
