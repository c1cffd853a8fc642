"""The metrics that control knows itself: certificates, the store and the processes.

They are made anew at each scrape from what there is, unlike the workers' multiprocess files, which cannot drop a
series: when a certificate is deleted, its series is gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from admin.explanation import configured_hosts
from admin.text import plain
from admin.version import openssl_version, python_version, version
from admin.view import View
from certstore.certified_key import CertifiedKey
from certstore.errors import RejectReason
from certstore.messages import FileProblem

EXPIRING = 1000  # certificates with a series of their own beside those of configured hosts
LONG_EXPIRED = 30 * 86400.0  # seconds; what expired earlier comes last among them

REJECT_REASONS = (*(one.value for one in RejectReason), "unreadable_directory", "trust", "default_name", "too_many")
RESULTS = ("applied", "rejected")


class ControlCollector(Collector):
    """Collects from a view of the running server."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._hosts = tuple(configured_hosts(view.config))

    def collect(self) -> Iterator[Metric]:
        """Every family, as it is now."""
        yield self._build_info()
        yield from self._certificates()
        yield from self._store()
        yield GaugeMetricFamily("snigate_workers", "Workers that accept connections.", self._view.workers_ready)
        yield self._reloads()
        yield CounterMetricFamily(
            "snigate_worker_restarts_total", "Workers started again after they had died.", self._view.worker_restarts
        )

    def _reloads(self) -> Metric:
        family = CounterMetricFamily(
            "snigate_config_reloads_total",
            "Reloads of the configuration: applied, or rejected and everything left as it was.",
            labels=("result",),
        )
        for result in RESULTS:
            family.add_metric((result,), self._view.reloads.get(result, 0))
        return family

    def _build_info(self) -> Metric:
        family = GaugeMetricFamily(
            "snigate_build_info", "Always 1; the labels say what runs.", labels=("version", "openssl", "python")
        )
        family.add_metric((version(), openssl_version(), python_version()), 1)
        return family

    def _certificates(self) -> Iterator[Metric]:
        index = self._view.replica.index
        yield GaugeMetricFamily("snigate_certificates", "Certificates that can be served.", len(index))
        family = GaugeMetricFamily(
            "snigate_certificate_not_after_timestamp_seconds",
            "When a certificate expires, in Unix seconds.",
            labels=("name", "path", "fingerprint", "key_type"),
        )
        series = {
            (name, plain(one.paths[0]) if one.paths else "", one.fingerprint, one.key_type): one.not_after
            for name, one in (*self._of_configured_hosts(), *self._expiring_soonest())
        }
        for labels, not_after in series.items():
            family.add_metric(labels, not_after)
        yield family

    def _of_configured_hosts(self) -> Iterator[tuple[str, CertifiedKey]]:
        for host in self._hosts:
            selection = self._view.replica.selector.select(host, strict=True)
            if selection is not None:
                yield host, selection.certificate

    def _expiring_soonest(self) -> Iterator[tuple[str, CertifiedKey]]:
        """Soonest first; those that expired long ago, an archive's, only where there is room, the latest first."""
        recent = self._view.clock() - LONG_EXPIRED
        soonest = heapq.nsmallest(
            EXPIRING,
            self._view.replica.index,
            key=lambda one: (one.not_after < recent, abs(one.not_after - recent), one.fingerprint),
        )
        return ((_first_name(one), one) for one in soonest)

    def _store(self) -> Iterator[Metric]:
        report = self._view.replica.report
        yield _rejected(report.problems if report is not None else ())
        swaps = CounterMetricFamily(
            "snigate_certstore_swaps_total",
            "Changes of the certificate store: applied, or holding something that was rejected.",
            labels=("result",),
        )
        for result in RESULTS:
            swaps.add_metric((result,), report.swaps.get(result, 0) if report is not None else 0)
        yield swaps
        if report is None:
            return
        if report.swapped_at:
            yield GaugeMetricFamily(
                "snigate_certstore_last_swap_timestamp_seconds",
                "When the certificate store last changed, in Unix seconds.",
                report.swapped_at,
            )
        if report.scanned_at:
            yield GaugeMetricFamily(
                "snigate_certstore_last_scan_timestamp_seconds",
                "When the certificate directories were last looked at, in Unix seconds.",
                report.scanned_at,
            )


def _rejected(problems: Iterable[FileProblem]) -> Metric:
    family = GaugeMetricFamily(
        "snigate_certificate_files_rejected", "Files and directories with a problem, by reason.", labels=("reason",)
    )
    counts = dict.fromkeys(REJECT_REASONS, 0)
    for problem in problems:
        counts[problem.reason] = counts.get(problem.reason, 0) + 1
    for reason, number in counts.items():
        family.add_metric((reason,), number)
    return family


def _first_name(one: CertifiedKey) -> str:
    return next(iter((*one.names, *one.addresses)), "")
