import gc
import weakref

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.loop.figures import DeferredFigures


def some_batch(number: int) -> ClipBatch:
    index = torch.full((2,), number)
    return ClipBatch(torch.zeros(2, 3, 3, 2, 4, 4), index, index, index, 0, 2)


def send(unread: DeferredFigures, step: int) -> None:
    figures = {"loss": torch.tensor(10.0 * step), "odd": torch.tensor(0.5)} if step % 2 else {"loss": torch.tensor(1.0)}
    unread.send(step, figures, (some_batch(step),), {"lr": 0.1} if step == 2 else None)


def test_the_latest_step_stays_unread_and_the_others_come_in_order_with_their_own_figures() -> None:
    unread = DeferredFigures()
    seen = []
    for step in range(1, 5):
        send(unread, step)
        read = list(unread.read(leave=1))
        assert [one.step for one in read] == ([step - 1] if step > 1 else [])
        seen += read
    seen += unread.read()
    assert list(unread.read()) == []
    assert [one.step for one in seen] == [1, 2, 3, 4]
    assert [one.figures for one in seen] == [
        {"loss": 10.0, "odd": 0.5}, {"loss": 1.0}, {"loss": 30.0, "odd": 0.5}, {"loss": 1.0},
    ]  # fmt: skip
    assert [one.batches[0].sample_index.tolist() for one in seen] == [[step, step] for step in range(1, 5)]
    assert [one.line for one in seen] == [None, {"lr": 0.1}, None, None]


def test_a_batch_is_kept_until_its_figures_are_read_and_no_longer() -> None:
    unread, kept = DeferredFigures(), []
    for step in (1, 2):
        batch = some_batch(step)
        kept.append(weakref.ref(batch.clips))
        unread.send(step, {"loss": torch.tensor(1.0)}, (batch,))
        del batch
    gc.collect()
    assert [one() is not None for one in kept] == [True, True]
    for _ in unread.read(leave=1):
        pass
    del _
    gc.collect()
    assert [one() is not None for one in kept] == [False, True]
