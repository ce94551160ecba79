"""train-kd doctor, as the command line gives it."""

import dataclasses
import json
from pathlib import Path

import click

from pclkd.sharding.common.errors import InputError

__all__ = ["doctor"]


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="this folder",
    help="Folder whose file system is tried: where runs or shards will be written.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the convolutions and the tiny run, as the setting of that name.",
)
@click.option("--only", multiple=True, metavar="CHECK", help="This check alone; again for more.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.pass_context
def doctor(context: click.Context, out: Path, precision: str, only: tuple[str, ...], as_json: bool) -> None:
    """Examine this machine in less than a minute: is it fit to train, and what helps where it is not.

    Needs no data, and leaves nothing behind. Exit code 0: fit, perhaps with warnings. 1: a check failed.
    """
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()  # before torch is loaded
    from pclkd.training.doctor.checks import CHECKS
    from pclkd.training.doctor.examination import Finding, examined, set_up

    for name in only:
        if name not in CHECKS:
            raise InputError(f"--only {name}: no such check", remedy=f"take some of: {', '.join(CHECKS)}")
    chosen = {name: check for name, check in CHECKS.items() if not only or name in only}
    width = max(map(len, chosen))
    findings: list[Finding] = []
    with set_up(out, precision) as machine:
        for finding in examined(machine, chosen):
            findings.append(finding)
            if not as_json:
                remedy = f" - {finding.remedy}" if finding.remedy else ""
                click.echo(f"{finding.verdict:<4}  {finding.name:<{width}}  {finding.figure}{remedy}")
    failed = [finding.name for finding in findings if finding.verdict == "FAIL"]
    if as_json:
        click.echo(json.dumps({"failed": failed, "checks": [dataclasses.asdict(one) for one in findings]}, indent=1))
    else:
        warned = sum(finding.verdict == "warn" for finding in findings)
        seconds = sum(finding.seconds for finding in findings)
        verdict = f"not fit: {', '.join(failed)}" if failed else "fit" + (f", {warned} warnings" if warned else "")
        click.echo(f"{verdict} ({len(findings)} checks, {seconds:.0f} s)")
    if failed:
        context.exit(1)
