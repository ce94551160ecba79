"""Whether teachers say anything: how near to uniform the distributions are that a student is to imitate.

A uniform contrastive distribution is imitated best by embeddings that all videos share: such a teacher teaches
collapse. So what each teacher says is measured in the first batches, and who says nothing is not imitated.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from pclkd.training.compute.distributed import gather_rows

__all__ = ["Hearing", "normalised_entropy", "teacher_owner"]

_BATCHES = 8  # that the decision is taken from
Said = TypeVar("Said")


def teacher_owner(number: int) -> str:
    """Under which name checkpoints keep the memory of teacher `number`, and figures tell of it."""
    return "teacher" if number == 0 else f"teacher{number + 1}"


def normalised_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of softmax(logits [..., N]) over ln N, mean over all: 0 where all is certain, 1 where nothing is."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1).mean() / math.log(max(logits.shape[-1], 2))


class Hearing:
    """Which teachers a term imitates: all, until one is found to say nothing; decided once, alike on all ranks.

    Args:
        term: whose teachers they are, for messages.
        what: the distribution, in the names of figures.
        teachers: how many, or the numbers of those of the run that can be asked.
        least: share of ln N, 0 to 1, by which a teacher's entropy has to stay below it; 0 takes every teacher.
        remedy: what to do about one that says nothing.

    Attributes:
        figures: the entropies of the latest batch, by name: `teacher_entropy_contrast`, 0 to 1.
    """

    def __init__(self, term: str, what: str, teachers: int | Sequence[int], least: float, remedy: str) -> None:
        self._term, self._what, self._least, self._remedy = term, what, least, remedy
        self._numbers = [*range(teachers)] if isinstance(teachers, int) else [*teachers]
        self._total = torch.zeros(len(self._numbers))
        self._batches, self._heard = 0, [True] * len(self._numbers)
        self._wait: int | None = None  # samples; not known before the first call
        self._news: list[str] = []
        self.figures: dict[str, torch.Tensor] = {}

    @property
    def silent(self) -> bool:
        """Whether nobody is left to imitate."""
        return not any(self._heard)

    def listen(self, said: Sequence[Said], logits: Sequence[torch.Tensor], random_for: int = 0) -> list[Said]:
        """Take in what every teacher says; all ranks must call.

        Args:
            said: of each teacher, in the form that the term wants.
            logits: the same as [..., B, N], as it is imitated, but for what softens both sides.
            random_for: samples of the run during which teachers are asked about what is still random, so that they
                cannot be judged; only the first call's counts.

        Returns:
            What those said who are imitated; whom this batch puts out is among them for the last time.
        """
        imitated = [one for one, heard in zip(said, self._heard, strict=True) if heard]
        each = torch.stack([normalised_entropy(one.detach()) for one in logits])
        self.figures = {
            f"{teacher_owner(number)}_entropy_{self._what}": h for number, h in zip(self._numbers, each, strict=True)
        }
        if self._batches < _BATCHES and self._least:
            everyones = gather_rows(each[None])
            self._wait = random_for if self._wait is None else self._wait
            if self._wait > 0:
                self._wait -= len(everyones) * logits[0].shape[-2]
                return imitated
            now = everyones.mean(0)
            self._total = self._total.to(now.device) + now if self._batches else now
            self._batches += 1
            if self._batches == _BATCHES:
                self._decide()
        return imitated

    def news(self) -> list[str]:
        """What was decided since the last call, a line for each teacher that is left out."""
        news, self._news = self._news, []
        return news

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint has to keep."""
        numbers = {"batches": self._batches, "wait": -1 if self._wait is None else max(0, self._wait)}
        counts = {name: torch.tensor(number) for name, number in numbers.items()}
        return {"total": self._total, "heard": torch.tensor(self._heard), **counts}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state()` gave; a checkpoint from before there was such a rule hears every teacher."""
        if not state:
            self._batches = _BATCHES
            return
        self._total = state["total"].clone()
        self._batches, wait = int(state["batches"]), int(state["wait"])
        self._wait = None if wait < 0 else wait
        self._heard = state["heard"].tolist()

    def _decide(self) -> None:
        """Waits for the device, once in a run."""
        for place, entropy in enumerate((self._total / _BATCHES).tolist()):
            if entropy > 1 - self._least:
                self._heard[place], number = False, self._numbers[place]
                self._news.append(
                    f"{self._term}: {teacher_owner(number)} says nothing, its distribution is uniform to {entropy:.4f} "
                    f"(entropy / ln N, left out above 1 - kd.least_said = {1 - self._least:g}), so it is not imitated; "
                    f"{self._remedy}"
                )
