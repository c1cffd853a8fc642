"""What workers count, in prometheus-client's multiprocess files.

A worker makes one `Metrics` with its own number: its files carry the number, not the process id, so a replaced worker
goes on counting where the dead one stopped and no files pile up. Gauges are of living workers alone: the supervisor has
a dead one's files removed. `settle` brings the files into being; while the disk has no room for them, they are memory.
Every label is bound before the first connection, and no label's value is anything that a client can choose;
docs/metrics.md lists them all. What connections count is written by `write`, see proxy.tallies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from certstore.ranking import Level
from certstore.remedy import remedy
from proxy.errors import HANDSHAKE_FAILURES, Outcome
from proxy.metric_file import MetricFile
from proxy.tallies import Count, Durations, Number, Pacer

log = logging.getLogger("snigate.worker")

DIRECTORY = "metrics"
VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

_HANDSHAKE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONNECT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def empty_directory(state_directory: Path) -> Path:
    """Make the directory of metric files anew. Raises OSError."""
    directory = state_directory / DIRECTORY
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    return directory


def remove_gauges(directory: Path, worker: int) -> None:
    """Drop what a worker that has ended was like, as far as that can be done; what it counted stays.

    Never raises: nothing that a worker leaves there, and no disk that refuses to be written, is to end the supervisor.
    """
    with contextlib.suppress(OSError):
        for file in directory.glob(f"gauge_live*_{worker}.db"):
            with contextlib.suppress(OSError):
                file.unlink()


class Metrics:
    """The metrics of one worker process. Make one a process, and only in a worker."""

    def __init__(self, worker: int, directory: Path) -> None:
        # By default prometheus-client decides at its import where values live, and that is before any worker exists.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: worker)  # type: ignore[no-untyped-call]
        values.MmapedDict = self._open  # type: ignore[attr-defined,assignment] # looked up for each file
        registry = CollectorRegistry()  # a worker exposes nothing itself
        self._parts: list[ListenerMetrics | BackendMetrics] = []
        self._pacer = Pacer(self.write)
        self._directory = directory
        self._files: dict[str, MetricFile] = {}
        self._health = str(directory / f"gauge_livemin_{worker}.db")
        self._complaint = ""
        self._make_listeners_metrics(registry)
        self._make_backends_metrics(registry)
        self._make_the_workers_own(registry)

    def _make_listeners_metrics(self, registry: CollectorRegistry) -> None:
        self._connections = Counter(
            "snigate_connections_total", "Connections that ended, by how.", ("listener", "outcome"), registry=registry
        )
        self._active = Gauge(
            "snigate_connections_active",
            "Connections open now.",
            ("listener",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._handshakes = Counter(
            "snigate_handshakes_total", "TLS handshakes done.", ("listener", "version", "resumed"), registry=registry
        )
        self._failures = Counter(
            "snigate_handshake_failures_total", "TLS handshakes that failed.", ("listener", "reason"), registry=registry
        )
        self._duration = Histogram(
            "snigate_handshake_duration_seconds",
            "From accept to the handshake's end.",
            ("listener",),
            buckets=_HANDSHAKE_BUCKETS,
            registry=registry,
        )
        self._bytes = Counter(
            "snigate_bytes_total", "Bytes sent to either side.", ("listener", "direction"), registry=registry
        )

    def _make_backends_metrics(self, registry: CollectorRegistry) -> None:
        self._connect_duration = Histogram(
            "snigate_backend_connect_duration_seconds",
            "From the first attempt to a connection that is ready, TLS included.",
            ("backend",),
            buckets=_CONNECT_BUCKETS,
            registry=registry,
        )
        self._connect_failures = Counter(
            "snigate_backend_connect_failures_total",
            "Attempts to reach a server of a backend that failed.",
            ("backend",),
            registry=registry,
        )
        self._backend_up = Gauge(
            "snigate_backend_up",
            "1 while a server is in service in every worker, 0 when one leaves it out.",
            ("backend", "server"),
            multiprocess_mode="livemin",
            registry=registry,
        )

    def _make_the_workers_own(self, registry: CollectorRegistry) -> None:
        selections = Counter(
            "snigate_certificate_selections_total", "Certificates served, by level.", ("level",), registry=registry
        )
        self._selections = {level: Count(selections.labels(str(level.value))) for level in Level}
        self.event_loop_lag = Gauge(
            "snigate_event_loop_lag_seconds",
            "How late a worker's event loop was last, the worst of the workers.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.open_fds = Gauge(
            "snigate_open_fds", "File descriptors open in workers.", multiprocess_mode="livesum", registry=registry
        )

    def _open(self, name: str) -> MetricFile:
        self._files[name] = file = MetricFile(Path(name))
        return file

    def retire(self) -> None:
        """Say no more of backends: a worker that accepts no more connects no more, and its last word would stay."""
        with contextlib.suppress(OSError):  # the connections that are open go on, whatever the disk says
            self._files[self._health].remove()

    def settle(self) -> None:
        """Let what is counted be seen, if it is not yet; where the disk has no room for that, say so once."""
        complaint = ""
        for file in self._files.values():
            try:
                file.settle()
            except OSError as error:
                complaint = f"({error.strerror}): {remedy(error, 'let snigate write there')}"
        if complaint and complaint != self._complaint:
            log.error(
                "metrics cannot be written to %s %s; what is counted meanwhile is told then", self._directory, complaint
            )
        elif self._complaint and not complaint:
            log.info("metrics are written to %s again", self._directory)
        self._complaint = complaint

    def write(self) -> None:
        """Write what was counted since the last time."""
        for part in self._parts:
            part.write()
        for level in self._selections.values():
            level.write()

    def listener(self, name: str) -> ListenerMetrics:
        """The metrics of one listener."""
        found = ListenerMetrics(
            active=self._active.labels(name),
            duration=self._duration.labels(name),
            to_backend=self._bytes.labels(name, "to_backend"),
            to_client=self._bytes.labels(name, "to_client"),
            outcomes={outcome: self._connections.labels(name, outcome.value) for outcome in Outcome},
            failures={reason: self._failures.labels(name, reason) for reason in HANDSHAKE_FAILURES},
            handshakes={
                (version, resumed): self._handshakes.labels(name, version, "yes" if resumed else "no")
                for version in VERSIONS
                for resumed in (False, True)
            },
            selections=self._selections,
            touch=self._pacer.touch,
        )
        self._parts.append(found)
        return found

    def backend(self, name: str, servers: Iterable[str]) -> BackendMetrics:
        """The metrics of one backend and its servers."""
        found = BackendMetrics(
            self._connect_duration.labels(name),
            self._connect_failures.labels(name),
            {server: self._backend_up.labels(name, server) for server in servers},
            self._pacer.touch,
        )
        self._parts.append(found)
        return found


class ListenerMetrics:
    """The metrics of one listener, with every label bound."""

    def __init__(
        self,
        *,
        active: Gauge,
        duration: Histogram,
        to_backend: Counter,
        to_client: Counter,
        outcomes: dict[Outcome, Counter],
        failures: dict[str, Counter],
        handshakes: dict[tuple[str, bool], Counter],
        selections: Mapping[Level, Count],
        touch: Callable[[], None],
    ) -> None:
        """`selections` are written by whoever gives them: all listeners count in the same."""
        self._touch = touch
        self.active = Number(active)
        self.to_backend = Count(to_backend)
        self.to_client = Count(to_client)
        self.outcomes = {outcome: Count(counter) for outcome, counter in outcomes.items()}
        self.failures = {reason: Count(counter) for reason, counter in failures.items()}
        self._duration = Durations(duration)
        self._handshakes = {kind: Count(counter) for kind, counter in handshakes.items()}
        self._selections = selections

    def write(self) -> None:
        """See Metrics.write."""
        for one in (self.active, self.to_backend, self.to_client, self._duration):
            one.write()
        for counts in (self.outcomes, self.failures, self._handshakes):
            for count in counts.values():
                count.write()

    def handshake_done(self, version: str, resumed: bool, seconds: float, level: Level) -> None:
        """Count a finished handshake and the level of the certificate it was served."""
        self._handshakes[version, resumed].inc()
        self._duration.observe(seconds)
        self._selections[level].inc()
        self._touch()

    def refused(self) -> None:
        """Count a connection that was not let in."""
        self.outcomes[Outcome.REFUSED].inc()
        self._touch()

    def begun(self) -> None:
        """Count a connection in."""
        self.active.now += 1
        self._touch()

    def over(self, outcome: Outcome) -> None:
        """Count a connection out."""
        self.active.now -= 1
        self.outcomes[outcome].inc()
        self._touch()


class BackendMetrics:
    """The metrics of one backend, with every label bound."""

    def __init__(
        self, duration: Histogram, failures: Counter, up: Mapping[str, Gauge], touch: Callable[[], None]
    ) -> None:
        """`up`: by server. Each is taken to be up until told otherwise."""
        self._touch = touch
        self._duration = Durations(duration)
        self._failures = Count(failures)
        self._up = up
        for gauge in up.values():
            gauge.set(1)

    def write(self) -> None:
        """See Metrics.write."""
        self._duration.write()
        self._failures.write()

    def connected(self, seconds: float) -> None:
        """Count a connection that is ready, so many seconds after its first attempt."""
        self._duration.observe(seconds)

    def failed(self) -> None:
        """Count an attempt that failed."""
        self._failures.inc()
        self._touch()

    def up(self, server: str, is_up: bool) -> None:
        """A server is in service from now on, or is not."""
        self._up[server].set(1 if is_up else 0)
