"""Where the loader's time goes, stage by stage."""

import threading
from dataclasses import dataclass, field

__all__ = ["LoaderStatistics"]


@dataclass
class LoaderStatistics:
    """Sums since the loader was made; times in seconds, each stage on its own clock.

    Attributes:
        read_s: range reads, summed over the reader threads.
        checksum_s: CRC-32, summed over the reader threads.
        decode_s: decoding and augmentation in DALI.
        wait_s: time the consumer stood still for lack of a batch.
        bytes_read: bytes read from the shards.
        clips: clips delivered.
        quarantined: damaged samples met; each was replaced in training and left out in evaluation.
    """

    read_s: float = 0.0
    checksum_s: float = 0.0
    decode_s: float = 0.0
    wait_s: float = 0.0
    bytes_read: int = 0
    clips: int = 0
    quarantined: int = 0
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
