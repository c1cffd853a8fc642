"""How one generation follows another without a connection refused or reset.

    asked ----> planned ----> PREPARING ----> OPENING ----> HANDING_OVER ----> done
                   |              |              |
                   +--------------+--------------+---> refused: the generation in use goes on

- PREPARING: the new workers are forked and catch up with the keeper. They accept nothing, and sockets that are new do
  not listen yet, so a generation that is given up has never met a client.
- OPENING: all are prepared and are told to accept. Both generations accept, on the same sockets where these are kept.
- HANDING_OVER: all accept. Those of the old generation are told to drain: they take what has arrived and accept no
  more. Sockets that are no longer wanted are closed here; where control changes, the new one is started, and answers
  before the old one is told to end.

One roll at a time. What is asked for meanwhile is done after it, in one go, so each reload is answered by the outcome
of one that began after it was asked for.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from proxy.child import Child, State
from proxy.family import Family
from proxy.generation import Generation, Identity, Plan, PlanError, Replan, identity
from proxy.sockets import BACKLOG

log = logging.getLogger("snigate.supervisor")

PATIENCE = 120.0  # seconds in which a new generation must be prepared and accept
CONTROL_PATIENCE = 10.0  # seconds that the old control waits for the new one to answer
LAST_ANSWERS = 2 * PATIENCE  # seconds that a replaced control may take over what it was asked
POLL = 1.0  # seconds between looks at watched files


class Phase(Enum):
    """How far a roll is."""

    PREPARING = "preparing"
    OPENING = "opening"
    HANDING_OVER = "handing over"


@dataclass(frozen=True)
class Request:
    """A wish for a new generation. `asker` is the control process that waits for the outcome of its `number`."""

    why: str
    reread: bool  # from the configuration as it is now in its files
    asker: Child | None = None
    number: int = 0


@dataclass
class Roll:
    """A generation on its way to replace the one in use."""

    requests: list[Request]
    generation: Generation
    deadline: float  # monotonic seconds
    phase: Phase = Phase.PREPARING
    failure: str = ""  # why it cannot go on
    replaced: list[Child] = field(default_factory=list)  # keeper and control that have successors

    def awaits(self, child: Child) -> bool:
        """Whether the roll fails with this child."""
        return child.generation == self.generation.number and self.phase is not Phase.HANDING_OVER


class Succession:
    """The generation in use, and the one that is to follow."""

    def __init__(self, family: Family, first: Plan, replan: Replan, patience: float = PATIENCE) -> None:
        self.serving = Generation(1, first)
        self.reloads = {"applied": 0, "rejected": 0}
        self._family = family
        self._replan = replan
        self._patience = patience
        self._last_number = 1
        self._roll: Roll | None = None
        self._asked: list[Request] = []
        self._seen: dict[Path, Identity] = {}
        self._renew_at = 0.0
        self._poll_at = 0.0

    @property
    def controls(self) -> list[Child]:
        """Every control process that answers now."""
        replaced = self._roll.replaced if self._roll is not None else []
        return [self.serving.control, *(child for child in replaced if child.spec.role == "control")]

    @property
    def is_rolling(self) -> bool:
        """Whether a generation is on its way."""
        return self._roll is not None

    def begin(self) -> None:
        """Start the first generation: it has nobody to wait for."""
        plan = self.serving.plan
        self._family.hold(plan.sockets)
        for sock in plan.listening:
            sock.listen(BACKLOG)
        for child in self.serving:
            self._family.start(child)
        self._seen = dict(plan.watched)
        self._renew_at = time.monotonic() + self.serving.plan.renewal

    def ask(self, request: Request) -> None:
        """Take in a wish; it is seen to as soon as no other roll is on its way."""
        self._asked.append(request)

    def prepared(self, worker: Child) -> None:
        """A worker has caught up."""
        worker.state = State.PREPARED
        if worker in self.serving.workers:
            worker.say({"accept": True})

    def died(self, child: Child, how: str, now: float) -> bool:
        """See to a death, other than of a child that was told to end; True when the child is to be started again."""
        if self._roll is not None and self._roll.awaits(child):
            failure = f"{child.name} {how} before the new generation accepted connections; the log may say why"
            self._roll.failure = self._roll.failure or failure
        elif any(child is one for one in self.serving):
            delay = child.delay(now)
            often = f" ({child.deaths} deaths, each soon after a start)" if child.deaths > 1 else ""
            log.error("%s %s; it is started again%s", child.name, how, f" in {delay:g} s{often}" if delay else "")
            return True
        self._family.forget(child)
        return False

    def advance(self, now: float) -> None:
        """Do what is due."""
        for child in self.serving:
            if not child.pid and child.state is State.DOWN and now >= child.start_at:
                self._family.start(child)
        self._look_for_reasons(now)
        if self._roll is not None:
            self._go_on(self._roll, now)
        if self._roll is None and self._asked:
            requests, self._asked = self._asked, []
            self._start_roll(requests, now)

    def due(self) -> float:
        """When `advance` is to be called next without an event, in monotonic seconds."""
        moments = [child.start_at for child in self.serving if not child.pid]
        moments.append(self._renew_at)
        if self._seen:
            moments.append(self._poll_at)
        if self._roll is not None:
            moments.append(self._roll.deadline)
        return min(moments)

    def stop(self) -> None:
        """End a roll that is on its way, and answer whoever waits for one."""
        problem = "snigate was told to stop"
        if self._roll is not None and self._roll.phase is Phase.HANDING_OVER:
            self._finish(self._roll)
        elif self._roll is not None:
            self._give_up(self._roll, problem)
        self._answer(self._asked, (problem,))
        self._asked = []

    def _look_for_reasons(self, now: float) -> None:
        """Ask for a generation because of time, or of a file that is not what it was."""
        if now >= self._renew_at:
            self._renew_at = now + self.serving.plan.renewal
            self.ask(Request("the keys of session tickets have been used for long enough", reread=False))
        if not self._seen or now < self._poll_at:
            return
        self._poll_at = now + POLL
        for path, before in self._seen.items():
            found = identity(path)
            if found != before:
                self._seen[path] = found
                self.ask(Request(f"{path} changed", reread=False))

    def _start_roll(self, requests: list[Request], now: float) -> None:
        reread = any(request.reread for request in requests)
        log.info("a new generation of workers is made: %s", "; ".join(dict.fromkeys(one.why for one in requests)))
        self._seen = {path: identity(path) for path in self.serving.plan.watched}  # tried once for each change
        try:
            plan = self._replan(self.serving.plan, reread)
        except PlanError as refused:
            self._refuse(requests, refused.problems)
            return
        except Exception:
            log.exception("a new generation could not be planned")
            self._refuse(requests, ("a new generation could not be planned; the log says why",))
            return
        self._seen = dict(plan.watched)
        self._last_number += 1
        generation = Generation(self._last_number, plan, self.serving)
        self._family.hold(plan.sockets)
        self._roll = roll = Roll(requests, generation, now + self._patience)
        fresh = [generation.keeper] if generation.keeper is not self.serving.keeper else []
        for child in (*fresh, *generation.workers):
            if not roll.failure and not self._family.start(child):
                roll.failure = f"{child.name} of the new generation could not be started; the log says why"

    def _go_on(self, roll: Roll, now: float) -> None:
        states = {worker.state for worker in roll.generation.workers}
        if roll.phase is Phase.HANDING_OVER:
            if self.serving.control.state is State.READY or now >= roll.deadline:
                self._finish(roll)
        elif roll.failure:
            self._give_up(roll, roll.failure)
        elif now >= roll.deadline:
            self._give_up(roll, f"the new workers did not all accept within {self._patience:g} s; the log may say why")
        elif roll.phase is Phase.PREPARING and states == {State.PREPARED}:
            self._open(roll)
        elif roll.phase is Phase.OPENING and states == {State.READY}:
            self._hand_over(roll, now)

    def _open(self, roll: Roll) -> None:
        try:
            for sock in roll.generation.plan.listening:
                sock.listen(BACKLOG)  # those that listen already go on
        except OSError as error:
            self._give_up(roll, f"an address cannot be listened on ({error.strerror}); the log names them")
            return
        roll.phase = Phase.OPENING
        for worker in roll.generation.workers:
            worker.say({"accept": True})

    def _hand_over(self, roll: Roll, now: float) -> None:
        old, new = self.serving, roll.generation
        self.serving = new
        roll.phase = Phase.HANDING_OVER
        roll.deadline = now + CONTROL_PATIENCE
        if any(request.reread for request in roll.requests):
            self.reloads["applied"] += 1
        for worker in old.workers:
            self._family.drain(worker, new.plan.retire)
        self._family.release(sock for sock in old.plan.sockets if sock not in new.plan.sockets)
        new.plan.on_serving()
        if new.control is not old.control:
            roll.replaced.append(old.control)
            self._family.start(new.control)
        if new.keeper is not old.keeper:
            roll.replaced.append(old.keeper)
        self._renew_at = now + self.serving.plan.renewal
        log.info("generation %d serves; %d workers of the one before it drain", new.number, len(old.workers))

    def _finish(self, roll: Roll) -> None:
        """The successors answer: those that were asked tell the outcome, and end."""
        self._roll = None
        self._answer(roll.requests, ())
        for child in roll.replaced:
            if child.spec.role == "control":
                self._family.end(child, LAST_ANSWERS)
            else:
                self._family.end_now(child)

    def _give_up(self, roll: Roll, problem: str) -> None:
        self._roll = None
        new, old = roll.generation, self.serving
        for worker in new.workers:
            if roll.phase is Phase.OPENING:  # it may have met clients
                self._family.drain(worker, new.plan.retire)
            else:
                self._family.kill(worker)
        if new.keeper is not old.keeper:
            self._family.end_now(new.keeper)
        self._family.release(sock for sock in new.plan.sockets if sock not in old.plan.sockets)
        self._seen = {path: self._seen.get(path, before) for path, before in old.plan.watched.items()}
        self._refuse(roll.requests, (problem,))

    def _refuse(self, requests: list[Request], problems: tuple[str, ...]) -> None:
        self._renew_at = time.monotonic() + self.serving.plan.renewal
        reread = any(request.reread for request in requests)
        if reread:
            self.reloads["rejected"] += 1
        for problem in problems:
            log.error("%s: %s", "reload refused, everything stays as it is" if reread else "not renewed", problem)
        self._answer(requests, problems)

    def _answer(self, requests: list[Request], problems: tuple[str, ...]) -> None:
        for request in requests:
            if request.asker is not None:
                outcome = {"request": request.number, "generation": self.serving.number, "problems": problems}
                request.asker.say({"reloaded": outcome})
