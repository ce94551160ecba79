"""The terms by name: those of PCL and of distillation, and those that users register; which of them a run has."""

import importlib
import importlib.util
from collections.abc import Iterable
from typing import get_args

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import nearest
from pclkd.training.models.pcl_model import PclOutput
from pclkd.training.objective.features import KD_TERMS
from pclkd.training.objective.settings import KdSettings, Learner, PclSettings
from pclkd.training.objective.terms import PCL_TERMS, ContrastTerm, Term

__all__ = ["BUILT_IN", "chosen_terms", "legend", "register_term", "weighted_terms"]

BUILT_IN = PCL_TERMS + KD_TERMS
"""The terms that need no registration, in the order in which they are summed."""
_FIGURES = (
    *("loss", "pretext_top1_pct", "embedding_spread", "agreement_pct"),
    *(f"teacher_entropy_{what}" for what in ("pretext", "contrast", "relation")),
    *("kind", "epoch", "step", "lr"),
    *get_args(Learner),
)  # what else a line of metrics.jsonl holds under a plain name
_OWN: dict[str, type[Term]] = {}


def learner_term(name: Learner) -> type[Term]:
    """The term of a learner beside PCL; only then is lightly imported.

    Raises:
        InputError: lightly is missing.
    """
    if importlib.util.find_spec("lightly") is None:
        raise InputError(f"pcl.learner={name} needs lightly", remedy="pip install 'pclkd[learners]'")
    found: type[Term] = importlib.import_module(f"pclkd.training.objective.learners.{name}").LearnerTerm
    return found


def register_term(term: type[Term]) -> None:
    """Make a term of your own known by its name; `--set pcl.own_terms.NAME=WEIGHT` then adds it to the loss.

    Raises:
        InputError: not a Term, its name is no plain word or taken, or it says less or more of itself than Term asks.
    """
    if not (isinstance(term, type) and issubclass(term, Term)):
        raise InputError(f"{term!r} is no class of terms", remedy="register a subclass of pclkd.training.Term")
    for said in ("name", "title", "unit"):
        if not isinstance(getattr(term, said, None), str):
            raise InputError(f"the term {term.__name__} has no {said}", remedy=f'write {said} = "..." in its class')
    if not term.name.isidentifier():
        raise InputError(f"a term named {term.name!r}", remedy="take letters, digits and _ alone, for --set")
    if term.name in (*_FIGURES, *(other.name for other in BUILT_IN), *_OWN):
        raise InputError(f"a figure named {term.name!r} exists already", remedy="register the term by another name")
    for output in sorted(term.reads - set(PclOutput._fields)):
        raise InputError(
            f"the term {term.name!r} reads {output!r}, which no network gives",
            remedy=f"did you mean {nearest(output, PclOutput._fields)!r}?",
        )
    _OWN[term.name] = term


def weighted_terms(pcl: PclSettings, kd: KdSettings) -> dict[type[Term], float]:
    """The terms whose weight is above 0, with it, in the order in which they are summed.

    The name tells the setting: `pretext` has `pcl.pretext_weight`, `kd_feature` has `kd.feature_weight`.

    Raises:
        InputError: `pcl.own_terms` names one that is not registered.
    """
    weights = {
        term: float(getattr(kd if term in KD_TERMS else pcl, f"{term.name.removeprefix('kd_')}_weight"))
        for term in BUILT_IN
    }
    if pcl.learner != "pcl":
        del weights[ContrastTerm]
        weights[learner_term(pcl.learner)] = pcl.learner_weight
    for name, weight in pcl.own_terms.items():
        if name not in _OWN:
            guess = f"did you mean {nearest(name, _OWN)!r}? Else " if _OWN else ""
            raise InputError(
                f"pcl.own_terms.{name}={weight:g}: no term of that name is registered",
                remedy=f"{guess}--import the module that registers it",
            )
        weights[_OWN[name]] = weight
    return {term: weight for term, weight in weights.items() if weight > 0}


def chosen_terms(pcl: PclSettings, kd: KdSettings, *, pretext: bool, teachers: bool) -> dict[type[Term], float]:
    """Those of them that a run can have.

    Args:
        pcl: of the run.
        kd: of the run.
        pretext: whether the student has a pretext classifier.
        teachers: whether there are any.

    Raises:
        InputError: one of `pcl.own_terms` is not registered, or asks for what the run does not have.
    """
    chosen = weighted_terms(pcl, kd)
    for term in list(chosen):
        lacks = [
            what
            for what, missing in (
                ("a teacher", term.asks_teachers and not teachers),
                ("something to contrast with", term.asks_contrast and pcl.contrast == "none"),
                ("a pretext task", "pretext_logits" in term.reads and not pretext),
            )
            if missing
        ]
        if lacks and term not in BUILT_IN:
            raise InputError(
                f"pcl.own_terms.{term.name}={chosen[term]:g} asks for {' and '.join(lacks)}, which this run has not",
                remedy=f"--set pcl.own_terms.{term.name}=0, or give it that",
            )
        if lacks:
            del chosen[term]
    return chosen


def legend(terms: Iterable[Term | type[Term]]) -> dict[str, dict[str, str]]:
    """How charts tell each term: by name, its title and unit."""
    return {term.name: {"title": term.title, "unit": term.unit} for term in terms}
