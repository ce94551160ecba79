"""TensorBoard writes from a thread of its own: what ends that thread."""

import errno
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pclkd.training.loop.metrics_log import MetricsLog


@pytest.mark.parametrize(("error", "told"), [(OSError(errno.ENOSPC, "full"), 0), (ValueError("a defect"), 1)])
def test_a_full_disk_below_the_board_is_told_by_the_run_and_not_by_a_thread(
    tmp_path: Path, monkeypatch, error: Exception, told: int
) -> None:
    heard: list[object] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    log = MetricsLog(tmp_path, first_step=0)

    def fail(*_: object) -> None:
        raise error

    worker = log._board._get_file_writer().event_writer._async_writer._worker
    monkeypatch.setattr(worker._record_writer, "write", fail)
    with pytest.raises(type(error)):  # at the next record or the one behind it
        for step in range(100):
            log.write({"kind": "step", "epoch": 1, "step": step, "loss": 1.0})
            log._board.flush()
    worker.join(60)
    assert len(heard) == told
    with suppress(type(error)):
        log.close()
    assert threading.excepthook == heard.append
