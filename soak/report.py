"""A soak as tables for people."""

from __future__ import annotations

from rich.table import Table

from soak.record import Finding, Record


def tables(record: Record) -> list[Table]:
    """What was found, and what was done for it."""
    return [_findings(record), _kinds(record)]


def verdict(record: Record, *, judge_timing: bool) -> bool:
    """Whether everything that is judged is good."""
    return all(one.good for one in record.findings if judge_timing or not one.is_timing)


def remarks(record: Record) -> list[str]:
    """Where and how it ran."""
    plan, machine = record.plan, record.machine
    return [
        f"{record.date}, commit {record.commit}, snigate {record.version}",
        f"{plan.seconds:g} s, {plan.rate:g} connections a second; a swap each {plan.swap_every:g} s, a reload each "
        f"{plan.reload_every:g} s" + (f", a worker killed each {plan.kill_every:g} s" if plan.kill_every else ""),
        f"{machine.processor}, {machine.cores} cores, Linux {machine.kernel}, Python {machine.python}, "
        f"{machine.openssl}",
    ]


def _findings(record: Record) -> Table:
    made = Table(title="What was found", title_justify="left", title_style="bold")
    for heading in ("", "what", "found", "wanted"):
        made.add_column(heading, overflow="fold")
    for one in record.findings:
        made.add_row(_mark(one), one.name, one.found, one.wanted)
    return made


def _mark(finding: Finding) -> str:
    return "[green]good[/]" if finding.good else "[yellow]slow[/]" if finding.is_timing else "[red]bad[/]"


def _kinds(record: Record) -> Table:
    made = Table(title=f"{sum(record.kinds.values()):,} connections", title_justify="left", title_style="bold")
    made.add_column("kind")
    made.add_column("connections", justify="right")
    for kind, count in sorted(record.kinds.items(), key=lambda one: -one[1]):
        made.add_row(kind.replace("_", " "), f"{count:,}")
    return made
