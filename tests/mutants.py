"""The mutants: small changes of the kernel, each of which some test must notice. Run as `make mutants`.

Rules: a mutant is a textual change of a copy of the source, in a folder of its own; the tests that must kill it run
there, and stop at the first that fails. The same tests pass on the copy unchanged, which is run first. A survivor, or a
mutant whose text is not there any more, makes the exit code 1. What is printed, one mutant a line, says which test
killed which.

    python tests/mutants.py [--list] [WORD ...]     only those with one of these words in their name
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = Path("src/plait")
WORKERS = os.cpu_count() or 1
TIMEOUT = 15.0
"""Seconds after which a test has failed of a mutant that hangs it."""
LAST_TIMEOUT = 120.0
"""Seconds after which all of a mutant's tests have, if even that was of no use."""


@dataclass(frozen=True)
class Mutant:
    """What is changed, and who must notice.

    `edits`: a module of the kernel, or a path below the package without its suffix; a text that is there once; what it
    becomes. `tests`: files of tests/kernel, or paths below tests; where only some of a file: (file, an expression).
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str | tuple[str, str], ...]


def mutant(name: str, module: str, old: str, new: str, *tests: str | tuple[str, str]) -> Mutant:
    """One with one edit."""
    return Mutant(name, ((module, old, new),), tests)


def strategy(name: str, instead: str) -> Mutant:
    """One strategy in place of another."""
    return mutant(
        f"{name} behaves as {instead}",
        "strategies",
        "strategy = group.service.strategy  # type: ignore[attr-defined]  # a group's record has a Group",
        f'strategy = {{"{name}": "{instead}"}}.get(group.service.strategy, group.service.strategy)',
        ("test_supervision_strategies.py", "whom_a_strategy_takes_along"),
    )


STRATEGY = "test_supervision_strategies.py"
BACKOFF = "test_backoff.py"
SUPERVISION = "test_supervision.py"
START = "test_supervision_start.py"
END = "test_supervision_end.py"
PAUSE = "test_pause.py"
PAUSE_GROUPS = "test_pause_groups.py"
HEALTH = "test_health.py"
INTENT = "test_intent.py"
EVENTS = "test_events.py"

STRATEGIES = (
    strategy("one_for_one", "rest_for_one"),
    strategy("one_for_one", "one_for_all"),
    strategy("rest_for_one", "one_for_one"),
    strategy("rest_for_one", "one_for_all"),
    strategy("one_for_all", "one_for_one"),
    strategy("one_for_all", "rest_for_one"),
    mutant(
        "rest_for_one takes only direct dependents along", "strategies",
        "                queue.append(other)\n", "", STRATEGY,
    ),
    mutant(
        "dependents are not stopped first", "supervision",
        "_care(record).blocked = clearing or self._take_along(record, others)",
        "clearing or self._take_along(record, others)", STRATEGY,
    ),
    mutant(
        "the others do not start after the failed one", "supervision",
        "(None, first) if other in needed else (first, None)", "(None, first)", STRATEGY,
    ),
    mutant(
        "what the failed one needs waits for it to have started", "supervision",
        "(None, first) if other in needed else (first, None)", "(first, None)", STRATEGY,
    ),
    mutant(
        "what the failed one needs does not wait for its delay", "supervision",
        "(None, first) if other in needed else (first, None)",
        "(None, None) if other in needed else (first, None)", STRATEGY,
    ),
    mutant(
        "never is restarted by a sibling", "supervision",
        'other.policy.restart == "never" or other.intent', "other.intent", STRATEGY,
    ),
    mutant(
        "a strategy restarts what is down", "supervision",
        'other.policy.restart == "never" or other.intent is DOWN or', 'other.policy.restart == "never" or', STRATEGY,
    ),
    mutant(
        "one that fails while it is taken along is not asked why", "strategies",
        "        return record in self._begun\n", "        return True\n", STRATEGY,
    ),
    mutant(
        "one that has not been ready takes others along", "supervision",
        "taken_along(record) if record.ready_at >= 0 else ()", "taken_along(record)", START,
    ),
)  # fmt: skip

DELAYS = (
    mutant("no jitter", "backoff", "random.uniform(0.5, 1.0)", "1.0", BACKOFF),
    mutant("jitter from nothing", "backoff", "random.uniform(0.5, 1.0)", "random.uniform(0.0, 1.0)", BACKOFF),
    mutant("delays twice as long", "backoff", "FIRST = 0.5", "FIRST = 1.0", BACKOFF),
    mutant("delays up to two minutes", "backoff", "MOST = 60.0", "MOST = 120.0", BACKOFF),
    mutant("delays do not grow", "backoff", "2.0 ** min(self.failures, 40)", "2.0", BACKOFF),
    mutant("n never starts anew", "backoff", "            self.failures = 0\n", "            pass\n", BACKOFF),
    mutant("n starts anew with each failure", "backoff", "health >= max(HEALTHY, self.delay)", "True", BACKOFF),
    mutant("half a minute of health is enough", "backoff", "HEALTHY = 60.0", "HEALTHY = 30.0", BACKOFF),
    mutant("a minute of health is not enough", "backoff", "health >= max(", "health > max(", BACKOFF),
    mutant("health need not be as long as the delay", "backoff", "max(HEALTHY, self.delay)", "HEALTHY", BACKOFF),
    mutant("time in the start is health", "engine", "        record.ready_at = -1.0\n", "", BACKOFF),
    mutant(
        "time in which a check failed is health", "engine",
        "math.inf if is_unready else self.now()", "record.ready_at", BACKOFF,
    ),
    mutant(
        "time in which it stops is health", "engine",
        "record.since - record.ready_at if", "self.now() - record.ready_at if", BACKOFF,
    ),
    mutant(
        "a restart does not wait for its delay", "supervision",
        "engine.deadlines.after(delay, partial", "engine.deadlines.after(0, partial", BACKOFF,
    ),
)  # fmt: skip

LIMITS = (
    mutant("fifteen in a row", "backoff", "IN_A_ROW = 16", "IN_A_ROW = 15", BACKOFF),
    mutant("seventeen in a row", "backoff", "IN_A_ROW = 16", "IN_A_ROW = 17", BACKOFF),
    mutant("nine in a minute", "backoff", "LEAST_ALLOWED = 10", "LEAST_ALLOWED = 9", BACKOFF),
    mutant("eleven in a minute", "backoff", "LEAST_ALLOWED = 10", "LEAST_ALLOWED = 11", BACKOFF),
    mutant("two for each service", "backoff", "ALLOWED_EACH = 3", "ALLOWED_EACH = 2", BACKOFF),
    mutant("four for each service", "backoff", "ALLOWED_EACH = 3", "ALLOWED_EACH = 4", BACKOFF),
    mutant("as many as allowed are too many", "supervision", "in_window > most", "in_window >= most", BACKOFF),
    mutant("one more than allowed is allowed", "supervision", "in_window > most", "in_window > most + 1", BACKOFF),
    mutant("a failure a minute ago counts", "backoff", "<= now - WINDOW", "< now - WINDOW", BACKOFF),
    mutant("a window of half a minute", "backoff", "WINDOW = 60.0", "WINDOW = 30.0", BACKOFF),
    mutant(
        "a parkable service is counted in its group", "supervision",
        "care.recent if is_parkable else above.services", "above.services", BACKOFF,
    ),
    mutant(
        "a parkable service may fail as often as its group", "supervision",
        "allowed(1 if is_parkable else len(group.children or ()))", "allowed(len(group.children or ()))", BACKOFF,
    ),
    mutant("nobody is parked", "supervision", "        if is_parkable:\n", "        if False:\n", BACKOFF),
    mutant(
        "a parked service starts with its group", "operations",
        " or (record.care is not None and record.care.is_parked)", "", SUPERVISION,
    ),
    mutant(
        "an operator's start clears no count", "supervision",
        "                below.care.begin_anew()\n\n", "\n", BACKOFF,
    ),
    mutant(
        "what fails while a need is away is counted", "supervision",
        "(need := care.lacks) is not None", "(need := care.lacks) is not None and False", SUPERVISION,
    ),
    mutant(
        "what a need is away for is asked when all is over", "supervision",
        "(need := care.lacks) is not None", "(need := missing(record)) is not None", STRATEGY,
    ),
    mutant(
        "a start does not wait for what it needs", "supervision",
        "return all(map(is_met, known_needs(record))) and", "return", (SUPERVISION, "a_need_that_is_not_ready"),
    ),
    mutant(
        "a group's counts are kept when it starts again", "supervision",
        "        care.services.clear()\n", "", BACKOFF,
    ),
    mutant(
        "its services' counts are kept when a group starts again", "supervision",
        "below is not record and below.care is not None and not below.care.is_parked", "False", SUPERVISION,
    ),
    mutant(
        "a group that gave up was in health", "supervision",
        "care.failed(0.0 if care.gave_up else record.health)", "care.failed(record.health)", SUPERVISION,
    ),
    mutant(
        "a group is in health while one in it is away", "supervision",
        "elif child.state in (BACKOFF, STARTING, STOPPING):", "elif False:", SUPERVISION,
    ),
    mutant(
        "a group's health is not looked at", "supervision",
        "group.care is not None and group.care.failures:", "False:", SUPERVISION,
    ),
)  # fmt: skip

ENDS = (
    mutant("always is on_failure", "supervision", 'record.policy.restart == "always"', "False", SUPERVISION),
    mutant(
        "on_failure is always", "supervision",
        'record.policy.restart == "always"', 'record.policy.restart != "never"', SUPERVISION,
    ),
    mutant("never is on_failure", "supervision", 'record.policy.restart == "never" or holds', "holds", SUPERVISION),
    mutant(
        "a significant end is ignored", "supervision",
        "        elif record.policy.significant:\n", "        elif False:\n", SUPERVISION,
    ),
    mutant(
        "a significant failure is ignored", "supervision",
        "            if record.policy.significant:\n", "            if False:\n", SUPERVISION,
    ),
    mutant("Escalate is ignored", "supervision", "holds(asked, Escalate)", "False", SUPERVISION),
    mutant("DoNotRestart is ignored", "supervision", " or holds(asked, DoNotRestart)", "", SUPERVISION),
    mutant(
        "what is asked for in a group of errors is not seen", "operations",
        "isinstance(error, BaseExceptionGroup)", "False", SUPERVISION,
    ),
    mutant(
        "what a service asks for reaches all groups above", "supervision",
        "None if care.gave_up else error", "error", SUPERVISION,
    ),
    mutant(
        "a cancellation nobody asked for is no failure", "incarnation",
        "            self._note(self._cancelled(exc))\n\n", "            pass\n\n", SUPERVISION,
    ),
    mutant(
        "an older incarnation that was left behind ends the new one", "incarnation",
        "        if self._phase is not _LEFT:\n            self._over",
        "        if True:\n            self._over", SUPERVISION,
    ),
    mutant("what failed before a stop is an error of it", "operations", " and not record.by_itself", "", SUPERVISION),
    mutant(
        "what is parked does not keep the application alive", "supervision",
        "return record.care is None or not record.care.is_parked", "return True", END,
    ),
    mutant(
        "what is down does not keep the application alive", "supervision",
        "record.intent is UP and self._is_over", "self._is_over", END,
    ),
    mutant(
        "what waits for the lost keeps the application alive", "supervision",
        "return record in self._due and any(", "return False and any(", END,
    ),
    mutant(
        "a failure is forgotten at the end", "supervision",
        "            _note_failure(engine, record, record.error)\n", "            pass\n", END,
    ),
    mutant(
        "never that was stopped keeps the application alive", "supervision",
        'return record.returned or record.policy.restart == "never"', "return record.returned", END,
    ),
)  # fmt: skip

STARTS_AND_STOPS = (
    mutant(
        "no rollback", "operations",
        "Stop(self.engine, self.target, self.begun, cause=cause, timeout=timeout)",
        "Stop(self.engine, self.target, (), cause=cause, timeout=timeout)", START,
    ),
    mutant(
        "the start order is ignored", "operations",
        "            if record.needs and record in self._members:\n", "            if False:\n", "test_start.py",
    ),
    mutant(
        "the stop order is reversed", "operations",
        "                self._block(need, record)\n", "                self._block(record, need)\n", "test_stop.py",
    ),
    mutant(
        "a chain with a gap loses its order", "graph",
        "                    queue.extend(need.below())\n", "                    pass\n", "test_stop.py",
    ),
    mutant(
        "a parkable service holds up the first start", "operations",
        'if one.policy.on_exhausted == "park":', "if False:", START,
    ),
    mutant(
        "what is left out counts twice", "operations",
        "was_awaited = shelter in self._members", "was_awaited = True", START,
    ),
    mutant(
        "Escalate in the first start is parked", "operations",
        "record.parent if holds(error, Escalate) and record is not self.target else record", "record", SUPERVISION,
    ),
    mutant("what is down is started", "operations", "(record.intent is DOWN or (", "(False or (", START),
    mutant(
        "on_stop follows an on_start that failed", "incarnation",
        "if has_started and self.record.shape.stop and", "if self.record.shape.stop and", "test_start.py",
    ),
)  # fmt: skip

PAUSES = (
    mutant(
        "a group pauses in the order of the start", "pausing",
        "                self._block(need, record)\n", "                self._block(record, need)\n", PAUSE_GROUPS,
    ),
    mutant(
        "a group resumes in reverse", "pausing",
        "                self._block(record, need)\n", "                self._block(need, record)\n", PAUSE_GROUPS,
    ),
    Mutant(
        "a pause cascades to dependents",
        (
            ("pausing", "in self.target.below() if record.state in", "in self.engine.root.below() if record.state in"),
            (
                "engine", "return record.intent is HELD or any(",
                "needs = (record.parent.children.get(need) for need in record.needs) if record.parent else ()\n"
                "        return record.intent is HELD or any(need.intent is HELD for need in needs) or any(",
            ),
        ),
        ((PAUSE, "not_needed"), (PAUSE_GROUPS, "not_reach_dependents")),
    ),
    mutant(
        "what is paused comes back running", "engine",
        "return record.shape.pause and not record.shape.group and self.wants_paused(record)", "return False", PAUSE,
    ),
    mutant(
        "a restart forgets that it was paused", "engine",
        "        record.returned = record.by_itself = False\n",
        "        record.returned = record.by_itself = False\n        record.intent = Intent.UP\n", INTENT, PAUSE,
    ),
    mutant("who cannot pause is not told", "pausing", "            self.unable.append(record)\n", "", PAUSE_GROUPS),
    mutant(
        "who cannot pause is paused", "commands",
        "    if not (_can_pause(record) if", "    if False and not (_can_pause(record) if", PAUSE,
    ),
    mutant(
        "a hook that fails is ignored", "engine",
        "                life.fail(error)\n", "                then(record)\n", PAUSE,
    ),
    mutant("a hook may take for ever", "engine", "record.policy.pause_timeout, done", "1e6, done", PAUSE),
    mutant(
        "what an older incarnation's hook did counts", "engine",
        "if record.life is not life or record.state is not state:", "if False:", PAUSE,
    ),
    mutant(
        "one in a paused group may be resumed", "commands",
        "        if group.intent is HELD:\n", "        if False:\n", PAUSE_GROUPS,
    ),
    mutant(
        "a group that is resumed takes along what was paused by itself", "pausing",
        "record.state is not PAUSED or self.engine.wants_paused(record)", "record.state is not PAUSED", PAUSE_GROUPS,
    ),
    mutant(
        "the mode is not stored", "commands",
        "engine.intend(record, HELD, mode or record.pause_mode)", "engine.intend(record, HELD)", PAUSE,
    ),
    mutant(
        "unpaused does not wait", "incarnation",
        "while (held := self._held) is not None:", "while False and (held := self._held) is not None:", PAUSE,
    ),
    mutant(
        "who comes up in a paused group is not paused", "engine",
        "            self.supervision.settle(record)  # it asks", "            pass  # it asks", PAUSE, PAUSE_GROUPS,
    ),
)  # fmt: skip

HEALTHS = (
    mutant(
        "a check that fails restarts", "checks",
        "        self._set(self._checked, record, _said(result, error))\n",
        "        if error is not None:\n            return self._engine.life(record).fail(error)\n"
        "        self._set(self._checked, record, _said(result, error))\n", HEALTH,
    ),
    mutant("two checks at a time", "checks", "if call is not None and not call.done():", "if False:", HEALTH),
    mutant(
        "what an older incarnation's check said counts", "checks",
        "record.incarnation != incarnation or ", "", HEALTH,
    ),
    mutant(
        "a service is checked while it is paused", "checks",
        "        if record.state is RUNNING:\n            self.begin(record)\n",
        "        self.begin(record)\n", HEALTH,
    ),
    mutant("a check may take for ever", "checks", "record.policy.check_timeout, done", "1e6, done", HEALTH),
    mutant(
        "what has finished counts", "assessment",
        "if record.returned and record.state is STOPPED:\n        return None",
        "if False:\n        return None", HEALTH,
    ),
    mutant(
        "a first start is like any other", "assessment",
        "is_hard=state is STARTING and record.incarnation == 1", "is_hard=False", HEALTH,
    ),
    mutant(
        "any start is like the first", "assessment",
        "is_hard=state is STARTING and record.incarnation == 1", "is_hard=state is STARTING", HEALTH,
    ),
    mutant(
        "a failed check makes its group degraded", "assessment",
        "        return Assessment(own, is_hard=True)\n", "        return Assessment(own)\n", HEALTH,
    ),
    mutant(
        "a group that has lost all is degraded", "assessment",
        "if len(lacking) == len(counted) and", "if False and", HEALTH,
    ),
    mutant(
        "what misses its need is ready", "assessment",
        "own.level is Level.READY and record.needs and", "False and", HEALTH, PAUSE,
    ),
    mutant(
        "health is told again and again", "checks",
        "if health.level is not old.level:",
        "if health.level is not Level.READY or health.level is not old.level:", HEALTH,
    ),
    mutant(
        "dependents are not looked at", "checks",
        "affected.update(dict.fromkeys(self._users.get(one, ())))", "pass", HEALTH,
    ),
    mutant(
        "a group is not looked at again", "checks",
        "return services, sorted(groups", "return services, [] and sorted(groups", HEALTH,
    ),
    mutant(
        "extend_start is ignored", "incarnation",
        "deadline = self._deadline if self._phase in (_NEW, _START, _UNREADY) else None", "deadline = None", HEALTH,
    ),
)  # fmt: skip

TOLD = (
    mutant(
        "who comes late hears no intents", "replay",
        "    if record.intent is not UP:\n", "    if False:\n", EVENTS,
    ),
    mutant(
        "who comes late hears of no restart", "replay",
        "    if record.state is BACKOFF:\n", "    if False:\n", EVENTS,
    ),
    mutant("who comes late hears of no health", "replay", "in engine.checks.told():", "in ():", EVENTS, HEALTH),
    mutant(
        "who comes late hears of nobody parked", "replay",
        "record.state is FAILED and care.is_parked", "False", EVENTS,
    ),
    mutant(
        "no intent is told", "engine",
        "            self.emit(IntentChanged,", "            (lambda *_, **__: None)(IntentChanged,", INTENT,
    ),
)  # fmt: skip


RELOAD = "process/test_reload.py"
KEPT = "process/test_intents.py"
CHANGES = "test_changes.py"

RELOADS = (
    mutant(
        "a new generation that fails is not rolled back", "generations",
        "        except BaseException:\n            await self._undo()\n", "        except BaseException:\n", RELOAD,
    ),
    mutant(
        "what was handed over does not come back", "generations",
        "back = [record for record in self._to_return if record.state in AT_REST and record.top is self._old.root]",
        "back: list[Record] = []", RELOAD,
    ),
    mutant(
        "a successor starts while the old one stops", "generations",
        "            await wait(stop.done)\n        self._check_serving()", "        self._check_serving()", RELOAD,
    ),
    mutant(
        "what runs only once starts with the rest", "generations",
        "omit=lambda record: record in exclusive", "omit=None", RELOAD,
    ),
    mutant(
        "each change-over waits for all others", "generations",
        "for together in _components(units, self._old.root):", "for together in [units] if units else []:", RELOAD,
    ),
    mutant(
        "intents do not go over", "generations",
        "                record.intent, record.pause_mode = intent, mode", "                pass", RELOAD,
    ),
    mutant("what is commanded meanwhile is lost", "generations", "            await self._follow()\n", "", RELOAD),
    mutant(
        "a change of generations shows in health", "generations",
        "self._old.is_changing = self._new.is_changing = True", "pass", RELOAD,
    ),
    mutant(
        "a retiring tree has its application's deadline", "generations",
        "    engine.shutdown_timeout = math.inf\n", "    engine.shutdown_timeout = 0.01\n", RELOAD,
    ),
    mutant(
        "a stop does not hurry the one that retires", "process/generations",
        "            self._retiring.hurry(self.serving.shutdown_timeout)", "            pass", RELOAD,
    ),
    mutant("a live reload is not taken back", "live", "for one in reversed(told):", "for one in ():", RELOAD),
    mutant("a live reload is taken back forwards", "live", "for one in reversed(told):", "for one in told:", RELOAD),
    mutant(
        "a live reload has no order", "live", "in _in_order(engine.root, given):", "in list(given):", RELOAD,
    ),
    mutant(
        "after a live reload the old arguments are those in force", "live",
        "        record.arguments = arguments\n", "        pass\n", RELOAD,
    ),
    mutant(
        "functions are the same whatever they close over", "changes",
        "return where and same(_state_of(a), _state_of(b))", "return where", CHANGES,
    ),
    mutant(
        "what has no equality is the same", "changes",
        "    if not _has_equality(a):\n        return False\n", "    if not _has_equality(a):\n        return True\n",
        CHANGES,
    ),
    mutant(
        "a service that does not run counts as one that takes it live", "changes",
        'return None if old.state in (RUNNING, PAUSED) else f"it is {old.state.value}"', "return None", CHANGES, RELOAD,
    ),
    mutant(
        "reloads during a reload are not one", "process/reload",
        "self._waiting = self._waiting or self._begin(", "self._waiting = self._begin(", RELOAD,
    ),
    mutant(
        "a reload does not wait for the last one's drain", "process/runner",
        "        await generations.settled()  # at most two at a time\n", "", RELOAD,
    ),
    mutant(
        "the options in force stay the first ones", "process/runner",
        "        self._resolved = reading.resolved\n", "", RELOAD,
    ),
    mutant(
        "what was kept of intents is not read", "process/runner",
        "            self._intents.apply(application)", "            pass", KEPT,
    ),
    mutant(
        "a service that was removed is kept as down", "process/intents",
        "IntentChanged, ServiceRemoved, ReloadEnded", "IntentChanged, ReloadEnded", KEPT,
    ),
)  # fmt: skip

FOUND = "model/test_found.py"

OVERLAPS = (
    mutant(
        "a stop joins one that does not stop it",
        "operations",
        "return record is self.target and record in self._members",
        "return record is self.target",
        (FOUND, "rolled_back_stops_all"),
    ),
    mutant(
        "a stop leaves the deadlines that run already",
        "operations",
        "if record.state is STOPPING and record.life is not None:",
        "if False and record.life is not None:",
        (FOUND, "is_stopping_already"),
    ),
    mutant(
        "cut deadlines stay cut",
        "operations",
        "if self._shrink is self.engine.shrink:",
        "if False:",
        (FOUND, "short_of_time"),
    ),
    mutant(
        "a start reaches into groups that are stopping",
        "operations",
        "if record.state is STOPPING:  # what is in it",
        "if False:  # what is in it",
        (FOUND, "group_that_is_stopping"),
    ),
    mutant(
        "a start that is taken back keeps what waited",
        "operations",
        "self.engine.supervision.bring_back([one for one in due if one.state is BACKOFF]",
        "self.engine.supervision.bring_back([]",
        (FOUND, "waits_on_when_a_start_of_all_fails"),
    ),
    mutant(
        "what had finished is not waited for when it starts once more",
        "operations",
        "for one in coming:  # also",
        "for one in ():  # also",
        (FOUND, "starts_once_more"),
    ),
    mutant(
        "a foreign cancellation cuts a drain short",
        "incarnation",
        "while self._phase is _DRAIN and self._draining is not None and not self._draining.done():",
        "if self._phase is _DRAIN and self._draining is not None and not self._draining.done():",
        (FOUND, "cut_its_drain_short"),
    ),
    mutant(
        "an application that is only started has no time of its own",
        "engine",
        "self.shutdown_delay, self.shutdown_timeout = application.shutdown_delay, application.shutdown_timeout",
        "self.shutdown_timeout = application.shutdown_timeout",
        (FOUND, "only_started"),
    ),
)  # fmt: skip


MUTANTS = (*STRATEGIES, *DELAYS, *LIMITS, *ENDS, *STARTS_AND_STOPS, *PAUSES, *HEALTHS, *TOLD, *RELOADS, *OVERLAPS)


@dataclass(frozen=True)
class Outcome:
    """`killer` is the test that failed; None if all passed. `problem` says why a mutant could not be tried."""

    mutant: Mutant
    seconds: float
    killer: str | None = None
    problem: str | None = None

    @property
    def is_killed(self) -> bool:
        """As it shall be."""
        return self.killer is not None


def path(module: str) -> Path:
    """Where a module stands."""
    return PACKAGE / (f"{module}.py" if "/" in module else f"_kernel/{module}.py")


def mutate(folder: Path, edits: Iterable[tuple[str, str, str]]) -> str | None:
    """Make the edits in a copy of the source; what is wrong if a text is not there exactly once."""
    for module, old, new in edits:
        file = folder / path(module)
        source = file.read_text()
        if source.count(old) != 1:
            return f"{module}.py has {source.count(old)} times {old!r}"
        file.write_text(source.replace(old, new))
    return None


def copy(folder: Path, source: Path = ROOT) -> Path:
    """All that the tests need, with the bytecode that is there already."""
    for name in ("src", "tests"):
        shutil.copytree(source / name, folder / name)
    shutil.copy(source / "pyproject.toml", folder)
    return folder


def test(folder: Path, tests: Iterable[str | tuple[str, str]]) -> tuple[int | None, str]:
    """Run tests of the copy in `folder`; pytest's exit code, None if they hang, and its output."""
    tests = list(tests)
    words = [one[1] for one in tests if not isinstance(one, str)]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=no"]
    command += ["-o", f"timeout={TIMEOUT:g}", *map(_path, tests), *(["-k", " or ".join(words)] if words else [])]
    environ = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=LAST_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout + done.stderr


def _path(one: str | tuple[str, str]) -> str:
    file = one if isinstance(one, str) else one[0]
    return f"tests/{file}" if "/" in file else f"tests/kernel/{file}"


def attempt(one: Mutant, source: Path = ROOT) -> Outcome:
    """Make a mutant of `source`, and see who kills it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plait-mutant-") as name:
        folder = copy(Path(name), source)
        problem = mutate(folder, one.edits)
        code, output = test(folder, one.tests) if problem is None else (0, "")
    seconds = time.monotonic() - began
    if problem is not None:
        return Outcome(one, seconds, problem=problem)
    if code is None:
        return Outcome(one, seconds, killer="all of them, for it hangs")
    if code not in (0, 1):
        return Outcome(one, seconds, problem=f"pytest ended with {code}: {output[-500:]}")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(?:kernel/)?(.+?)(?: - .*)?$", output, re.MULTILINE)
    return Outcome(one, seconds, killer=failed.group(1) if failed else None)


def attempt_all(mutants: Iterable[Mutant]) -> Iterator[Outcome]:
    """The source as it is first, which must pass, then each mutant, all of the same copy."""
    mutants = list(mutants)
    files = sorted({one if isinstance(one, str) else one[0] for each in mutants for one in each.tests})
    with tempfile.TemporaryDirectory(prefix="plait-mutants-") as name, ThreadPoolExecutor(WORKERS) as pool:
        source = copy(Path(name))
        unchanged = attempt(Mutant("unchanged", (), tuple(files)), source)
        if unchanged.killer or unchanged.problem:
            yield Outcome(unchanged.mutant, unchanged.seconds, problem=unchanged.problem or f"fails {unchanged.killer}")
        else:
            yield from pool.map(partial(attempt, source=source), mutants)


def chosen(words: list[str]) -> list[Mutant]:
    """Those with one of the words in their name; all if there are no words."""
    return [one for one in MUTANTS if not words or any(word in one.name for word in words)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Change the kernel a little, and see which test notices.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants with this in their name")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run nothing")
    arguments = parser.parse_args()
    mutants = chosen(arguments.words)
    if arguments.list:
        print("\n".join(one.name for one in mutants))
        return 0
    began, bad = time.monotonic(), 0
    for outcome in attempt_all(mutants):
        bad += not outcome.is_killed
        told = f"killed by {outcome.killer}" if outcome.is_killed else f"SURVIVED {outcome.problem or ''}".rstrip()
        print(f"{outcome.mutant.name:66} {told}", flush=True)
    print(f"{len(mutants)} mutants, {bad} not killed, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
