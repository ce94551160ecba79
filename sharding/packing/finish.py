"""A set that was packed in parts, put together when all of them are there."""

import time
from collections.abc import Sequence
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.packing.assemble import assemble
from pclkd.sharding.packing.deal import PackPart
from pclkd.sharding.packing.journal import Plan, read_record
from pclkd.sharding.packing.lock import locked
from pclkd.sharding.packing.pack import PackReport, checked_place
from pclkd.sharding.packing.shard import write_index
from pclkd.sharding.packing.task import ShardResult, ShardTask
from pclkd.sharding.shards.manifest import MANIFEST_NAME, Manifest

__all__ = ["finish_set"]

_NAMED_AT_MOST = 8


def finish_set(out: str | Path) -> PackReport:
    """Write index and manifest of the set whose parts are in `out`: the bytes are those that one run would have made.

    The records of the shards are trusted: neither videos nor tars are read again, but every tar must be there in its
    whole length.

    Raises:
        InputError: a part is missing or still at work, or nothing was packed there in parts.
    """
    started = time.monotonic()
    out = checked_place(out)
    if storage.exists(storage.join(out, MANIFEST_NAME)):
        return PackReport.of((), started, manifest=Manifest.read(out), complete=True)
    if (plan := Plan.read(out)) is None or not plan.tasks:
        raise InputError(f"no unfinished shard set at {out}", remedy="pack its parts first: shard-ucf101 pack --part")
    with locked(out) as check:
        results = _results(out, plan)
        check()
        manifest = assemble(out, plan.dataset, plan.settings, results)
    return PackReport.of(results, started, manifest=manifest)


def _results(out: str, plan: Plan) -> list[ShardResult]:
    """What became of each shard, from the records."""
    sizes = storage.sizes(out)
    results: list[ShardResult | None] = []
    for task in plan.tasks:
        recorded = read_record(task)
        result = recorded.result if recorded else None
        if result and result.record:
            if sizes.get(task.name) != result.record.bytes:
                result = None
            elif f"{Path(task.name).stem}.idx" not in sizes:
                write_index(task, result.packed)
        results.append(result)
    missing = [task for task, result in zip(plan.tasks, results, strict=True) if result is None]
    if missing:
        raise _unfinished(out, plan, missing)
    return [result for result in results if result is not None]


def _unfinished(out: str, plan: Plan, missing: Sequence[ShardTask]) -> InputError:
    shards = f"{len(missing)} of its {len(plan.tasks)} shards are missing, the first is {missing[0].name}"
    if not plan.parts:
        return InputError(f"the set in {out} is not finished: {shards}", remedy="give its pack command again")
    names = {task.name for task in missing}
    parts = [PackPart(number + 1, plan.parts) for number in range(plan.parts)]
    away = [str(part) for part in parts if names.intersection(task.name for task in part.share(plan.tasks))]
    more = f" and {len(away) - _NAMED_AT_MOST} more" if len(away) > _NAMED_AT_MOST else ""
    told = f"part{'s' if len(away) > 1 else ''} {', '.join(away[:_NAMED_AT_MOST])}{more}"
    return InputError(
        f"{told} of the set in {out} {'are' if len(away) > 1 else 'is'} not finished: {shards}",
        remedy=f"give the pack command with --part {away[0]} again; what is finished of it is kept",
    )
