"""The results as tables for people."""

from __future__ import annotations

from rich.table import Table

from benchmarks.charts import overview
from benchmarks.figures import FIGURES, digits, shown
from benchmarks.results import CaseResult, Results, ratio, summary


def tables(results: Results) -> list[Table]:
    """One for each case, a row for each peer; then the ratios of all."""
    return [*(_table(case) for case in results.cases), *_overview(results)]


def _overview(results: Results) -> list[Table]:
    compared = overview(results)
    peers = [peer for peer in results.versions if any(peer in one.ratios for one in compared)]
    if not peers:
        return []
    made = Table(title="snigate / peer, less is better", title_justify="left", title_style="bold")
    made.add_column("case")
    made.add_column("figure")
    for peer in peers:
        made.add_column(peer, justify="right")
    for one in compared:
        cells = (f"{one.ratios[peer]:.2f}" if peer in one.ratios else "-" for peer in peers)
        made.add_row(one.title, FIGURES[one.figure].words, *cells)
    return [made]


def _table(case: CaseResult) -> Table:
    beside = [name for name in FIGURES if name != case.figure and _is_measured(case, name)]
    made = Table(title=f"{case.name}: {case.title} ({_rounds(case)})", title_justify="left", title_style="bold")
    made.add_column("server")
    for words in (
        FIGURES[case.figure].words,
        "least .. most",
        "snigate / peer",
        *(FIGURES[one].words for one in beside),
    ):
        made.add_column(words, justify="right")
    for peer, result in case.peers.items():
        main, against = summary(result, case.figure), ratio(case, peer)
        if main is None:
            made.add_row(peer, "-")
            continue
        others = (summary(result, name) for name in beside)
        made.add_row(
            peer,
            shown(case.figure, main.median),
            f"{digits(main.least)} .. {digits(main.most)}",
            "" if peer == "snigate" or against is None else f"{against:.2f}",
            *("" if one is None else shown(name, one.median) for name, one in zip(beside, others, strict=True)),
        )
    return made


def _rounds(case: CaseResult) -> str:
    count = max((len(result.samples) for result in case.peers.values()), default=0)
    return f"{count} round{'' if count == 1 else 's'}"


def _is_measured(case: CaseResult, figure: str) -> bool:
    return any(figure in sample for result in case.peers.values() for sample in result.samples)


def remarks(results: Results) -> list[str]:
    """What the tables do not show: versions, what was negotiated, who was left out and why."""
    versions = ", ".join(f"{peer} {version}" for peer, version in results.versions.items())
    machine = results.machine
    where = f"{machine.processor}, {machine.cores} cores, Linux {machine.kernel}"
    lines = [
        f"{results.date}, commit {results.commit}, {results.rounds} rounds, {versions}",
        f"{where}, Python {machine.python}, snigate and client with {machine.openssl}",
        *(f"{peer} negotiates {what}" for peer, what in results.negotiated.items()),
        *(f"{peer} is left out: {why}" for peer, why in results.absent.items()),
    ]
    for case in results.cases:
        lines += [f"{case.name}, {peer}: {one.note}" for peer, one in case.peers.items() if one.note]
    return lines
