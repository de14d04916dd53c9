"""The model: what follows from what operators command and from what services do, told without the kernel.

It is written from the contract, and imports of Plait nothing but the words of states, intents, events and errors. It
hears four things: commands, as they are given (`command`); what services do, from the world (`Node.enter`, `leave`);
the events of the kernel (`see`); and that nothing can run any more until time passes (`quiet`).

Two kinds of claims follow, and what breaks one is noted in `problems`:
- Of each event: it is allowed now. A move needs its reason: a start needs a licence (a command, a start under way, a
  restart that is due), an open group and met needs; an end needs a cause of its own or an `Ending` that covers it, and
  its turn in that. What follows a failure is computed here first, and the kernel's events must agree.
- Of each quiet moment: what is owed has happened. Who may start has started; who must stop is stopping, or waits for
  somebody who is busy; who is wanted paused is paused; nobody waits for nothing.

`Node` is one service, `StartOp` a start under way, `Ending` a stop under way, `Due` a start that is owed, `Command`
an operator's call. `quiet.py` has the claims of quiet moments, and health.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from world import Call, Life, Plan

from plait import Intent, State, events
from plait.errors import (
    ApplicationFailed,
    CannotPause,
    LifecycleError,
    PauseFailed,
    StartFailed,
    StartInterrupted,
    StopFailed,
)

NEW, STARTING, RUNNING = State.NEW, State.STARTING, State.RUNNING
PAUSING, PAUSED, RESUMING = State.PAUSING, State.PAUSED, State.RESUMING
STOPPING, STOPPED, FAILED, BACKOFF = State.STOPPING, State.STOPPED, State.FAILED, State.BACKOFF
UP, HELD, DOWN = Intent.UP, Intent.PAUSED, Intent.DOWN

READY = {RUNNING, PAUSING, PAUSED, RESUMING}
REST = {NEW, STOPPED, FAILED, BACKOFF}

LEGAL = {
    NEW: {STARTING},
    STARTING: {RUNNING, PAUSED, STOPPING},
    RUNNING: {PAUSING, STOPPING},
    PAUSING: {PAUSED, STOPPING},
    PAUSED: {RESUMING, STOPPING},
    RESUMING: {RUNNING, STOPPING},
    STOPPING: {STOPPED, FAILED},
    STOPPED: {STARTING, BACKOFF},
    FAILED: {STARTING, BACKOFF},
    BACKOFF: {STARTING, STOPPED},
}

MAY_RAISE: dict[str, tuple[type[BaseException], ...]] = {
    "serve": (StartFailed, ApplicationFailed),
    "start": (StartFailed, StartInterrupted, LifecycleError),
    "restart": (StartFailed, StartInterrupted, LifecycleError),
    "stop": (StopFailed, LifecycleError),
    "pause": (CannotPause, PauseFailed, LifecycleError),
    "resume": (PauseFailed, LifecycleError),
    "remove": (StopFailed, LifecycleError),
}
ONCE = ("on_start", "run", "on_drain", "on_stop", "exit")
"""Hooks that are called at most once in an incarnation."""
EPS = 1e-5
IN_A_ROW, WINDOW, HEALTHY, MOST = 16, 60.0, 60.0, 60.0


class Unknown(Exception):
    """Stands for what a group fails of beside its services, until it is told."""


@dataclass(slots=True, eq=False)
class Command:
    """An operator's call, while it is under way."""

    verb: str
    node: Node
    must_raise: bool = False
    """It makes no sense now, and has to say so."""
    op: StartOp | None = None
    waits: bool = False
    """It starts its service when that has stopped; what is possible then is seen then."""
    was_met: bool = False
    """Its service was ready at some time since the call."""
    cancelled: bool = False
    number: int = 0
    """Which incarnation a restart ends."""
    is_revoked: bool = False
    """A stop has overtaken it while it waited."""
    is_void: bool = False
    """A restart that a stop has overtaken: the next one does not join it."""


@dataclass(slots=True, eq=False)
class StartOp:
    """A start under way: of `target` and what is below it."""

    target: Node
    by: list[Command]
    """Who waits for it; nobody, if supervision began it."""
    supervised: bool = False
    pending: set[Node] = field(default_factory=set)
    begun: set[Node] = field(default_factory=set)
    lives: dict[Node, int] = field(default_factory=dict)
    """Which incarnation of them."""
    doomed: bool = False
    """The last who waited was cancelled: it may be rolled back at any moment."""
    error: BaseException | None = None
    interrupted: bool = False
    """A stop of all of it has begun."""


@dataclass(slots=True, eq=False)
class Ending:
    """A stop under way. It is over when all it covers are at rest."""

    why: str
    target: Node
    cover: set[Node]
    left: set[Node]
    then: Callable[[], None]
    cause: BaseException | None = None
    """The target fails of this."""
    may_begin: float = 0.0
    begins: float = 0.0
    """Only the application turns unready before this."""
    begun: set[Node] = field(default_factory=set)
    """Those that stop because of it, and of nothing else."""
    is_sure: bool = True
    """False of one that may be under way, or not."""
    is_clearing: bool = False
    """Of those that a strategy takes along: one that falls before its turn has failed by itself."""


@dataclass(slots=True, eq=False)
class Due:
    """A start that is owed."""

    at: float = 0.0
    told: bool = True
    """An event has said so."""
    delayed: bool = False
    """By a delay that this event says."""
    ops: list[StartOp] = field(default_factory=list)
    after: Node | None = None
    """Who must have started first."""
    with_: Node | None = None
    """Whose delay must be over."""
    blocked: Ending | None = None


class Node:
    """One service, as the model sees it."""

    def __init__(self, model: Model, name: str, group: Node | None, plan: Plan, needs: list[Node], policy: Any) -> None:
        self.model, self.name, self.group, self.plan, self.needs, self.policy = model, name, group, plan, needs, policy
        self.strategy = "one_for_one"
        self.children: list[Node] = []
        self.script: dict[str, list[str]] = {}
        self.trigger: asyncio.Future[str] | None = None
        self.state, self.intent, self.since = NEW, UP, 0.0
        self.life = Life(0, 0.0)
        self.due: Due | None = None
        self.was_due = False
        """It is no longer, and that it was is still to be said."""
        self.fell = False
        """The present end is its own doing."""
        self.finished = False
        """At rest because it was done: a need for it stays met."""
        self.parked = self.gave_up = self.leaving = False
        self.is_vague = False
        """Either of two has started it, or nobody knows when a waiting start has cleared its counts."""
        self.is_late = False
        """It was added while the application ran."""
        self.failures, self.restarts, self.delay = 0, 0, 0.0
        self.recent: list[float] = []
        """When it failed, for one that is parked."""
        self.recent_below: list[float] = []
        """When its services failed, for a group."""
        self.owes: set[str] = set()
        """Events that must come: "gave up: culprit", "parked"."""
        self.told = "ready"
        """Its health, as events have it."""
        self.owes_pause = False
        """It ran when it was wanted paused, and has not moved since."""
        self.left: set[asyncio.Task[Any] | None] = set()
        """The tasks of older incarnations, which may have been left behind."""
        self.error: BaseException | None = None
        self.causes: list[BaseException] = []
        """Why starts of it failed."""
        if group is not None:
            group.children.append(self)

    def __repr__(self) -> str:
        return f"{self.path}:{self.state.value}"

    @property
    def path(self) -> str:
        if self.group is None:
            return "/"
        above = self.group.path
        return self.name if above == "/" else f"{above}/{self.name}"

    def above(self) -> Iterator[Node]:
        """The groups it is in, nearest first."""
        group = self.group
        while group is not None:
            yield group
            group = group.group

    def below(self) -> Iterator[Node]:
        """It, and all below it."""
        yield self
        for child in self.children:
            yield from child.below()

    def within(self, other: Node) -> bool:
        """Whether it is `other`, or below it."""
        return self is other or other in self.above()

    @property
    def is_one(self) -> bool:
        """Whether it runs only once, whatever there is of generations."""
        return any(one.policy.placement == "one" for one in (self, *self.above()))

    @property
    def is_live(self) -> bool:
        return self.state not in REST

    @property
    def is_open(self) -> bool:
        """Whether the services of this group may start."""
        is_past_start = not (self.plan.start or self.plan.enters) or "on_start" in self.life.returned
        return self.state in READY or (self.state is STARTING and is_past_start)

    @property
    def is_met(self) -> bool:
        """Whether what needs it may start."""
        return self.finished or (self.state in READY and all(child.is_met for child in self.children))

    @property
    def wants_paused(self) -> bool:
        return self.intent is HELD or any(group.intent is HELD for group in self.above())

    @property
    def can_pause(self) -> bool:
        return self.plan.is_group or self.plan.pause or self.life.asks

    @property
    def may_run(self) -> bool:
        """Whether all it is in is there, or on its way."""
        return all(
            (group.state in READY or group.state is STARTING) and not self.model.is_to_stop(group)
            for group in self.above()
        )

    def may_start(self) -> bool:
        """Whether a start that is due can happen now."""
        due, now = self.due, self.model.now()
        if due is None or not due.told or due.at > now + EPS or (due.blocked is not None and due.blocked.left):
            return False
        if due.after is not None and (due.after.due or due.after.state in (STARTING, STOPPING)):
            return False
        if due.with_ is not None and due.with_.due and due.with_.due.at > now + EPS:
            return False
        if any(one in op.pending for op in due.ops for need in self.needs for one in need.below()):
            return False  # also if it had finished: it starts once more
        group = self.group
        return (group is None or (group.is_open and self.may_run)) and all(need.is_met for need in self.needs)

    def begin_anew(self) -> None:
        """Nothing is counted yet."""
        self.failures, self.delay, self.recent, self.recent_below = 0, 0.0, [], []

    # -- what the world tells ----------------------------------------------------------------------------------------

    def enter(self, hook: str) -> Call:
        """A hook is called: it must be its time."""
        life, call = self.life, Call(hook, self.model.now())
        if hook in ("on_start", "run", "on_stop", "exit"):
            task = asyncio.current_task()
            if task in self.left and hook == "exit":
                return call  # of one that was left behind: it unwinds late, and concerns nobody
            self.model.forbid(life.task not in (None, task), self, f"{hook} of an older incarnation was called")
            life.task = task
        if hook == "on_drain" and self.fell and any(self in ending.left for ending in self.model.endings):
            self.model.is_exact = False  # it was to be stopped as well, and that came first
        self.model.forbid(hook in life.called and hook in ONCE, self, f"{hook} was called again")
        self.model.forbid(not self._is_time(hook), self, f"{hook} was called while {self.state.value}")
        life.called.add(hook)
        life.calls.append(call)
        return call

    def _is_time(self, hook: str) -> bool:
        life, state = self.life, self.state
        if life.stuck and hook in ("on_stop", "exit"):
            return True  # it was left behind, and gets on late
        if hook == "on_start":
            return state is STARTING
        if hook in ("run", "ready"):
            goes_on = hook == "run" and "ready" in life.returned  # both in one run(), and it may not have heard
            return self.has_started and (state in READY or (state is STARTING and self.plan.manual) or goes_on)
        if hook == "on_drain":
            return state is STOPPING and not (self.fell and self.model.is_exact)
        if hook == "on_stop":
            return state is STOPPING and self.has_started and not life.busy("run", "on_start", "exit")
        if hook == "exit":
            return state is STOPPING and not life.busy("run", "on_start", "on_stop")
        if hook == "on_pause" and state is STARTING:
            return self.has_started and not self.plan.is_group
        beside = {"on_pause": PAUSING, "on_resume": RESUMING}
        return state in (beside.get(hook, state), STOPPING)  # it was called in a task of its own, a turn ago

    @property
    def has_started(self) -> bool:
        """Whether its on_start has returned, or it has none."""
        return not (self.plan.start or self.plan.enters) or "on_start" in self.life.returned

    def leave(self, life: Life, call: Call, error: BaseException | None) -> None:
        """A hook has ended."""
        if call in life.calls:
            life.calls.remove(call)
        life.took_time = life.took_time or self.model.now() > call.began
        if error is None:
            life.returned.add(call.hook)
            if call.hook == "run" and life is self.life and self.state is not STOPPING:
                life.finished = life.may_fall = True
        elif call.hook == "check":
            life.took_time = True
        elif call.hook == "on_reload":  # if it cannot go back either
            life.may_fall = life.took_time = True
        elif not isinstance(error, asyncio.CancelledError):
            life.may_fall = True
            life.raised.append(error)
            self.model.note(f"{self!r} raises {error!r:.60} in {call.hook} of #{life.number}")
            if call.hook not in ("on_pause", "on_resume", "spawned"):
                life.errors.append(error)

    def checked(self, life: Life, call: Call, level: str) -> None:
        """A check has said how it does; one that was cancelled took too long, if it took that long."""
        is_late = self.model.now() >= call.began + self.policy.check_timeout - EPS
        if (
            life is not self.life
            or not (self.state in READY or self.state is STARTING)
            or (level == "" and not is_late)
        ):
            return
        was_unready, life.health = life.health == "unready", level or "unready"
        if was_unready != (life.health == "unready"):
            life.ready_at = self.model.now() if was_unready else None

    def works(self) -> None:
        """It takes work."""
        self.model.forbid(self.state is PAUSED, self, "it took work while it was paused")


class Model:
    """See the module's rules."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.root = Node(self, "model", None, Plan(is_group=True), [], None)
        self.nodes: dict[str, Node] = {"/": self.root}
        self.commands: list[Command] = []
        self.ghosts: list[Command] = []
        """Commands that go on, though nobody waits for them any more."""
        self.starts: list[StartOp] = []
        self.doomed: list[StartOp] = []
        """Starts whose last caller was cancelled, and will hear of it."""
        self.endings: list[Ending] = []
        self.problems: list[str] = []
        self.edges: Counter[tuple[State, State]] = Counter()
        self.seen: Counter[str] = Counter()
        """Kinds of events, and why services were stopped."""
        self.shutdown_delay = 0.0
        self.is_exact = True
        """Whether it still says what follows, and not only what must never be."""
        self.is_changing = False
        """Whether it is one of the two trees of a reload."""
        self.ends_itself = False
        """Whether it ends when all its services have, which it does since it was first served."""
        self.is_served_on = False
        """Whether what serves it has something else to wait for: a reload, or another tree that retires."""
        self.failed_at = -WINDOW
        """When a failure was last heard of."""
        self.trace: list[tuple[float, str]] = []

    def note(self, text: str) -> None:
        """For those who read a failure."""
        self.trace.append((self.now(), text))

    def expect(self, holds: Any, node: Node, text: str) -> None:
        """Note a problem, unless this holds; it is one of what follows."""
        self.forbid(self.is_exact and not holds, node, text)

    def forbid(self, holds: Any, node: Node, text: str) -> None:
        """Note a problem if this holds: it must never be."""
        if holds:
            self.problems.append(f"{self.now():.4f} {node!r} #{node.life.number}: {text}")
            self.note(f"PROBLEM {node!r}: {text}")

    # -- what operators do -------------------------------------------------------------------------------------------

    def command(self, verb: str, node: Node, **how: Any) -> Command:
        """A command is given; called just before the kernel hears it."""
        command = Command(verb, node, was_met=node.finished or node.state in READY)
        self.commands.append(command)
        self.note(f"--> {verb} {node!r} {how or ''}")
        if not self.is_exact:
            if verb == "remove":
                self._mark_leaving(node, **how)
        elif any(self.nodes.get(one.path) is not one for one in (node, *node.above())):
            command.waits = verb == "remove"  # it has been removed, maybe with the group that it is in
            command.must_raise = not command.waits
        else:
            getattr(self, f"_do_{verb}")(command, node, **how)
        return command

    def _do_serve(self, command: Command, node: Node) -> None:
        self.ends_itself = True
        self._launch(command)

    def _do_start(self, command: Command, node: Node) -> None:
        if self._is_leaving(node):
            command.must_raise = True
        elif node.state is STOPPING:
            node.intent = UP if node.intent is DOWN else node.intent
            command.waits = True
        else:
            self._launch(command)

    def _launch(self, command: Command) -> None:
        node = command.node
        if not self._can_start(node):
            command.must_raise = True
            return
        node.intent = UP if node.intent is DOWN else node.intent
        self._clear(node)
        for op in self.starts:
            if op.target is node or (node in op.pending and not op.doomed):
                if op.target is node:
                    op.by.append(command)
                    command.op = op
                    op.doomed = False  # he was cancelled, and has not heard of it yet
                    self.doomed = [one for one in self.doomed if one is not op]
                return
        self._begin(node, [command])

    def _begin(self, node: Node, by: list[Command]) -> StartOp:
        op = StartOp(node, list(by))
        self.starts.append(op)
        for command in by:
            command.op = op
        for one in node.below() if by else ():
            one.due = one.due if one.due is not None and one.due.ops else None
        if not node.is_live:
            self._owe(node, op)
        self._owe_below(node, op)
        self._look_over(op)
        return op

    def _can_start(self, node: Node) -> bool:
        is_inside = all(group.is_live and group.state is not STOPPING for group in node.above())
        return is_inside and (node.is_live or self._needs_come(node))

    def _needs_come(self, node: Node) -> bool:
        """Whether what it needs is there, or on its way."""
        missing = self.missing(node)
        return missing is None or any(missing is op.target or missing in op.pending for op in self.starts)

    def away(self, node: Node) -> Iterator[Node]:
        """All it needs that is not there."""
        for need in node.needs:
            for one in need.below() if not need.is_met else ():
                if one.state not in READY and not one.finished:
                    yield one

    def missing(self, node: Node) -> Node | None:
        """The first of all it needs that is not there."""
        return next(self.away(node), None)

    def _owe(self, node: Node, op: StartOp) -> None:
        node.due = node.due if node.due is not None and node.due.ops else Due(at=self.now())
        node.due.ops.append(op)
        op.pending.add(node)

    def _owe_below(self, group: Node, op: StartOp) -> None:
        """What is at rest below a group, and meant to be up, shall start."""
        for child in group.children:
            if child.intent is not DOWN and not child.parked and not child.leaving and child.state is not STOPPING:
                if not child.is_live:
                    self._owe(child, op)
                self._owe_below(child, op)

    def _clear(self, node: Node) -> None:
        for one in node.below():
            one.begin_anew()
            one.parked = False

    def _do_stop(self, command: Command, node: Node) -> None:
        if node is self.root:
            self.stop_all()
        else:
            node.intent = DOWN
            self._revoke(node)
            self._stop_alone(node)

    def _stop_alone(self, node: Node) -> None:
        if node.is_live:
            self.end([node], "stop")
        else:
            self._withdraw([node])

    def stop_all(self, *, was: State | None = None, cause: BaseException | None = None) -> None:
        """The application stops, unless it does or has already."""
        root = self.root
        self._revoke(root)
        if root.is_live and not any(ending.target is root and ending.why == "application" for ending in self.endings):
            delay = self.shutdown_delay if (was or root.state) is RUNNING else 0.0
            ending = self.end([root], "application", begins=self.now() + self.shutdown_delay, cause=cause)
            ending.may_begin = self.now() + delay  # if nothing came first that gives it the delay

    def _revoke(self, node: Node) -> None:
        """Starts and restarts that wait for it to stop are overtaken by another stop."""
        for one in (*self.commands, *self.ghosts):
            one.is_revoked = one.is_revoked or (one.node is node and one.op not in self.starts)
            one.is_void = one.is_void or (one.node is node and one.verb == "restart")

    def _do_restart(self, command: Command, node: Node) -> None:
        number = command.number = node.life.number
        if not node.is_live and not all(group.is_live and group.state is not STOPPING for group in node.above()):
            command.must_raise = True
            return
        others = [one for one in (*self.ghosts, *self.commands) if one.verb == "restart" and one.node is node]
        first = next(one for one in others if not one.is_void and (one.number == number or node.state is STARTING))
        if first is not command:
            command.op, command.waits, command.number = first.op, True, first.number
        elif self._is_leaving(node) or (node is self.root and node.state is STOPPING):
            command.must_raise = True
        elif node is self.root:
            self.stop_all()
            command.waits, command.is_void, command.is_revoked = True, False, False
        elif node.intent is DOWN:
            node.intent = UP
            command.waits = True
        elif node.state is not STOPPING and not self._needs_come(node):
            command.must_raise = True
        else:
            self._stop_alone(node)
            command.waits = True

    def _do_pause(self, command: Command, node: Node) -> None:
        plan = node.plan
        may_turn_out_to = plan.is_group or plan.pause or plan.start or plan.run or plan.stop or plan.enters
        is_able = node.can_pause if node.state in READY else may_turn_out_to
        if node.intent is DOWN or self._is_leaving(node) or not is_able:
            command.must_raise = True
        else:
            node.intent = HELD
            self._note_held(node)

    def _note_held(self, node: Node) -> None:
        for one in node.below():
            one.owes_pause = one.state is RUNNING and one.can_pause

    def _do_resume(self, command: Command, node: Node) -> None:
        if any(group.intent is HELD for group in node.above()):
            command.must_raise = True
        elif node.intent is HELD:
            node.intent = UP
        for one in node.below():
            one.owes_pause = one.owes_pause and one.wants_paused

    def _do_remove(self, command: Command, node: Node, *, dependents: bool) -> None:
        leaving = self._mark_leaving(node, dependents=dependents)
        command.must_raise = not leaving
        if leaving:
            self._withdraw([one for one in leaving if not one.is_live])
            self.end(leaving, "remove")

    def _mark_leaving(self, node: Node, *, dependents: bool) -> list[Node]:
        """It, and who needs it, if those may go as well; nobody if they may not."""
        leaving = [*self.dependents(node), node]
        if len(leaving) > 1 and not dependents:
            return []
        for one in leaving:
            one.leaving, one.intent = True, DOWN
        return leaving

    def dependents(self, node: Node) -> list[Node]:
        """Who needs it or something in it, or what it is in, transitively."""
        found: list[Node] = []
        queue = [node]
        while queue:
            one = queue.pop()
            for other in self.root.below():
                is_dependent = any(need.within(one) or one.within(need) for need in other.needs)
                if is_dependent and other not in found and not other.within(node):
                    found.append(other)
                    queue.append(other)
        return found

    def _is_leaving(self, node: Node) -> bool:
        return node.leaving or any(group.leaving for group in node.above())

    def cancel(self, command: Command) -> None:
        """Who waits for a command is cancelled; the last who waits for a start takes it back."""
        command.cancelled = True
        op = command.op
        if self.is_exact and command.verb in ("start", "serve") and op is not None and command in op.by:
            op.by.remove(command)
            if not op.by and not op.supervised and op.error is None and not op.interrupted:
                op.doomed = True  # also when it is done, and he has not heard of it
                self.doomed.append(op)

    def returned(self, command: Command, error: BaseException | None) -> None:
        """A command has come to its end."""
        self.note(f"<-- {command.verb} {command.node!r}: {error!r:.150}")
        self.commands.remove(command)
        node, op = command.node, command.op
        for one in node.below() if command.waits else ():
            one.is_vague = True
        is_known = error is None or isinstance(error, (asyncio.CancelledError, *MAY_RAISE[command.verb]))
        self.forbid(not is_known, node, f"{command.verb} raised {error!r}")
        if not self.is_exact:
            return
        if isinstance(error, asyncio.CancelledError):
            if op in self.doomed and op not in self.starts and not all(node.is_live for node in op.begun):
                self.is_exact = False  # it was done, and much has come since
                return
            if op in self.doomed:
                self._abort(op, None)
            if command.verb in ("restart", "pause"):
                self.ghosts.append(command)
            return
        is_refusal = type(error) in (LifecycleError, CannotPause)
        is_refusal = is_refusal or (command.must_raise and isinstance(error, StartInterrupted))
        self.expect(is_refusal or not command.must_raise, node, f"{command.verb} should have been refused")
        may_refuse = command.must_raise or command.waits or command.verb == "restart"
        may_refuse = may_refuse or (command.verb == "start" and node.due is not None)  # it waits for what it needs
        self.expect(may_refuse or not is_refusal, node, f"{command.verb} refused: {error}")
        if error is None and command.verb in ("start", "restart"):
            self.expect(command.was_met, node, "its start has returned, and it was not ready")
        if op is not None and isinstance(error, StartFailed):
            is_root_cause = any(isinstance(cause, Unknown) or error.exceptions[0] is cause for cause in node.causes)
            self.expect(is_root_cause, node, f"the root cause is not first in {error!r}")

    # -- starts and ends under way -----------------------------------------------------------------------------------

    def end(
        self,
        nodes: Iterable[Node],
        why: str,
        then: Callable[[], None] = lambda: None,
        *,
        target: Node | None = None,
        cause: BaseException | None = None,
        begins: float = 0.0,
        is_clearing: bool = False,
    ) -> Ending:
        """These, and all below them, shall stop; `then` is called when they have."""
        nodes = list(nodes)
        cover = {one for node in nodes for one in node.below() if one.is_live}
        ending = Ending(
            why, target or nodes[-1], cover, set(cover), then, cause, begins, begins, is_clearing=is_clearing
        )
        self.endings.append(ending)
        self.seen[f"stop because of {why}"] += bool(cover)
        self._withdraw(nodes)
        for op in list(self.starts):
            if any(op.target.within(node) for node in nodes):
                op.interrupted = True
                self._drop(op)
        self._over(ending)
        return ending

    def _over(self, ending: Ending) -> None:
        if not ending.left:
            self.endings.remove(ending)
            ending.then()

    def _withdraw(self, nodes: Iterable[Node]) -> None:
        """What is at rest there shall not start."""
        nodes = list(nodes)
        for node in nodes:
            for one in node.below():
                self._forgive(one)
        for op in list(self.starts):
            if not op.target.is_live and any(op.target.within(node) for node in nodes):
                self._abort(op, None)

    def _forgive(self, node: Node) -> None:
        due, node.due = node.due, None
        node.was_due = node.was_due or (due is not None and not due.told)
        for op in due.ops if due is not None else ():
            op.pending.discard(node)
            self._look_over(op)

    def _look_over(self, op: StartOp) -> None:
        if not op.pending and op in self.starts:
            self.starts.remove(op)

    def _drop(self, op: StartOp) -> None:
        """It is over, and what it still had to start is left."""
        if op in self.starts:
            self.starts.remove(op)
        if op in self.doomed:
            self.doomed.remove(op)
        for node in [node for node in op.pending if node.due is not None]:
            due = node.due
            assert due is not None
            due.ops.remove(op)
            if not due.ops:
                node.due = None
        op.pending.clear()

    def _abort(self, op: StartOp, culprit: Node | None) -> None:
        """Roll it back."""
        op.error = culprit.error if culprit is not None else None
        if op.error is not None:
            op.target.causes.append(op.error)
        due = [node for node in op.pending if node.state is BACKOFF]
        is_sure = op in self.starts or op.target is not self.root  # or serve() may have heard that all is ready
        self._drop(op)

        def then() -> None:
            if op.supervised and culprit is not None and op.target.state is FAILED:
                self._verdict(op.target, gave_up=culprit is not op.target)

        still = [node for node in op.begun if node.life.number == op.lives[node]]
        self.end(still, "rollback", then, target=op.target, cause=op.error).is_sure = is_sure
        for node in due:
            if node.due is None and not any(node.within(one) for one in op.begun):
                node.due = Due(at=self.now(), told=False)  # supervision has it back

    def _failed_in(self, op: StartOp, node: Node) -> None:
        """What this start has begun failed."""
        shelter = self._shelter(node, op)
        if shelter is None:
            self._abort(op, node)
        else:
            self._leave_out(op, shelter, node)

    def _shelter(self, node: Node, op: StartOp) -> Node | None:
        """The nearest that can be parked, of a failed one and the groups it is in, below what was to start."""
        for one in (node, *node.above()):
            if one is op.target:
                return None
            if one.policy.on_exhausted == "park" and not (one is node and _holds(node.error, "Escalate")):
                return one
        return None

    def _leave_out(self, op: StartOp, shelter: Node, culprit: Node) -> None:
        for one in shelter.below():
            op.begun.discard(one)
            op.pending.discard(one)
            if one.due is not None and op in one.due.ops:
                one.due.ops.remove(op)
                one.due = one.due if one.due.ops else None
        then = partial(self._verdict, shelter, gave_up=shelter is not culprit)
        if shelter.is_live:
            self.end([shelter], "shelter", then, cause=culprit.error)
        else:
            then()
        self._look_over(op)

    # -- what the kernel says ----------------------------------------------------------------------------------------

    def see(self, event: events.Event) -> None:
        """An event must be allowed, and follow from what is known."""
        if isinstance(event, events.EventsDropped):
            return
        node = self.nodes[event.path]
        self.seen[type(event).__name__] += 1
        if isinstance(event, events.RestartScheduled) and event.delay is not None:
            self.failed_at = self.now()
        if isinstance(event, events.StateChanged):
            self._moved(node, event)
        elif isinstance(event, events.ServiceRemoved):
            self._removed(node)
        elif not self.is_exact:
            self._heard(node, event)
        elif isinstance(event, events.RestartScheduled):
            self._scheduled(node, event)
        elif isinstance(event, events.NotStarted):
            self._not_started(node, event)
        elif isinstance(event, events.GaveUp):
            self._told(node, f"gave up: {event.culprit}")
        elif isinstance(event, events.Parked):
            self._told(node, "parked")
        elif isinstance(event, events.IntentChanged):
            self._intended(node, event)
        elif isinstance(event, events.HealthChanged):
            self.expect(event.old.value == node.told, node, f"its health was {node.told}, not {event.old.value}")
            self.expect(node.state is RUNNING, node, "its health is told while it does not run")
            self.note(f"{node!r} health {event.new.value}: {event.reason}")
            node.told = event.new.value
        elif isinstance(event, events.NotPaused):
            self.expect(node.wants_paused and not node.can_pause, node, "said to be unable to pause")
        elif isinstance(event, events.ServiceStuck):
            self.expect(node.life.calls, node, f"said to be stuck, and is not: {event.what}")
            node.life.stuck = True

    def _heard(self, node: Node, event: events.Event) -> None:
        """It is only kept in mind."""
        if isinstance(event, events.IntentChanged):
            node.intent = event.new
        elif isinstance(event, events.HealthChanged):
            node.told = event.new.value
        elif isinstance(event, events.Parked):
            node.parked = True
        elif isinstance(event, events.ServiceStuck):
            node.life.stuck = True
        elif isinstance(event, events.RestartScheduled):
            node.delay = event.delay or node.delay

    def _told(self, node: Node, what: str) -> None:
        self.note(f"{node!r} {what}")
        self.expect(what in node.owes, node, f"unexpected: {what}; expected {node.owes}")
        node.owes.discard(what)

    def _intended(self, node: Node, event: events.IntentChanged) -> None:
        self.note(f"{node!r} intent {event.old.value} -> {event.new.value}")
        if event.new is UP and node.intent is HELD and node.state in READY and not node.can_pause:
            for command in (*self.commands, *self.ghosts):
                if command.verb == "pause" and command.node is node:
                    node.intent = UP  # it has turned out that it cannot
                    command.must_raise = True
        self.expect(event.new is node.intent, node, f"intent {event.new.value}, not {node.intent.value}")

    def _removed(self, node: Node) -> None:
        self.note(f"{node!r} removed")
        is_gone = node.leaving or (node.group is not None and node.group.path not in self.nodes)
        self.expect(is_gone or any(group.leaving for group in node.above()), node, "nobody wants it removed")
        self.forbid(node.is_live, node, "it was removed while it ran")
        del self.nodes[node.path]
        if node.leaving and node.group is not None:
            node.group.children.remove(node)

    def _scheduled(self, node: Node, event: events.RestartScheduled) -> None:
        self.note(f"{node!r} restart in {event.delay} after {event.failures}: {event.reason}")
        due = node.due
        is_told_again = due is not None and (due.after or due.with_) and event.delay is None  # two have stopped it
        if due is None or due.told:
            self.expect(is_told_again or node.was_due, node, f"nothing asks for a restart: {event.reason}")
            return
        due.told = True
        if node.is_vague:
            node.failures, node.is_vague = event.failures, False
        self.expect(event.failures == node.failures, node, f"{event.failures} failures, not {node.failures}")
        if due.delayed and event.delay is not None:
            most = min(MOST, 0.5 * 2**node.failures)
            self.expect(most / 2 - EPS <= event.delay <= most + EPS, node, f"delay {event.delay}, of at most {most}")
            due.at, node.delay = self.now() + event.delay, event.delay
        self.expect(due.delayed == (event.delay is not None), node, f"delay is {event.delay}")

    def _not_started(self, node: Node, event: events.NotStarted) -> None:
        self.note(f"{node!r} not started: {event.reason}")
        is_away = any(not need.is_met or need.due is not None for need in node.needs)
        self.expect(is_away, node, f"not started, though its needs are met: {event.reason}")
        for group in node.above():
            if not group.is_live:
                self._licence(group)  # it is about to start
        for one in node.below():
            if one.due is not None and (one is node or one.due.ops):
                self._forgive(one)
        if node.intent is not DOWN and not node.leaving:
            node.due = Due(at=self.now())

    # -- moves -------------------------------------------------------------------------------------------------------

    def _moved(self, node: Node, event: events.StateChanged) -> None:
        old, new = event.old, event.new
        self.edges[old, new] += 1
        self.note(f"{node!r} -> {new.value} #{event.incarnation} {event.error!r:.90}")
        self.forbid(old is not node.state, node, f"the event says it was {old.value}")
        self.forbid(new not in LEGAL[old], node, f"no such move: {old.value} -> {new.value}")
        op = self._licence(node) if new is STARTING and self.is_exact else None
        node.state, node.since, node.owes_pause = new, self.now(), False
        number = node.life.number + (new is STARTING)
        self.forbid(event.incarnation != number, node, f"incarnation {event.incarnation}, not {number}")
        node.told = "ready"  # until something else is said
        if new is STARTING:
            self._starting(node, op)
        elif old is STARTING and new in READY:
            self._is_ready(node)
        elif old in READY and new in READY:
            self._paused_or_resumed(node, old, new)
        elif new is STOPPING:
            self._stopping(node, old)
        elif old is STOPPING:
            self._ended(node, event)
        elif not self.is_exact:
            pass
        elif new is BACKOFF:
            self.expect(node.due is not None or node.was_due, node, "in backoff, and nothing asks for a restart")
        elif new is STOPPED:
            if node.due is not None:
                self._explain(node, old)
            self.expect(node.due is None, node, "out of backoff, and nobody wants that")

    def _starting(self, node: Node, op: StartOp | None) -> None:
        self.forbid(node.intent is DOWN or self._is_leaving(node), node, "starts, though it shall be down")
        self.forbid(node.group is not None and not node.group.is_open, node, "starts before its group has")
        missing = [one for one in self.away(node) if not (one.is_late and one.state is NEW)]
        if not self.is_exact:  # a group that is at rest may have finished
            missing = [one for one in missing if one.state is not STOPPED]
        self.forbid(missing, node, f"starts before what it needs: {missing}")
        self.expect(op, node, f"nobody starts it; due: {node.due}")
        node.due = None
        node.left.add(node.life.task)
        node.left.discard(None)
        node.life, node.was_due = Life(node.life.number + 1, self.now()), False
        if op is not None:
            op.begun.add(node)
            op.lives[node] = node.life.number
        node.fell = node.finished = node.parked = node.gave_up = False
        node.error = None

    def _anew(self, group: Node) -> None:
        group.recent_below = []
        for one in group.below():
            if one is not group and not one.parked:
                one.begin_anew()

    def _licence(self, node: Node) -> StartOp | None:
        """The start that this belongs to, which may begin with it."""
        if node.due is not None and node.due.ops:
            return node.due.ops[0]
        waiting = [
            one for one in (*self.commands, *self.ghosts) if one.node is node and one.waits and not one.is_revoked
        ]
        wishes = [one for one in waiting if one.op not in self.starts]
        if node.may_start():  # that comes first, and they join it, or they do
            node.is_vague = bool(wishes)
            node.restarts += node.life.number > 0
            self._anew(node)
            op = self._begin(node, [])
            op.supervised = True
            for command in wishes:
                command.op = op
            return op
        if wishes:
            self._clear(node)
            return self._begin(node, wishes)
        for one in (*self.commands, *self.ghosts):  # it waited for a group to stop, which somebody else has started
            is_late = one.waits and not one.is_revoked and one.op not in self.starts
            if is_late and one.verb in ("start", "restart") and one.node in node.above():
                self._clear(one.node)
                self._begin(one.node, [one])
                return node.due.ops[0] if node.due is not None and node.due.ops else None
        return None

    def _is_ready(self, node: Node) -> None:
        node.life.ready_at, node.life.was_ready = self.now(), True
        for command in self.commands:
            command.was_met = command.was_met or command.node is node
        if node.plan.is_group:
            unready = {one for op in self.starts if node in op.pending for one in node.children if one in op.pending}
            self.expect(not unready, node, f"ready before {unready}")
        if node.state is PAUSED:
            is_hooked = "on_pause" in node.life.returned if node.plan.pause else node.plan.is_group
            self.forbid(not is_hooked, node, "paused without its on_pause")
        for op in list(self.starts):
            if node in op.pending:
                op.pending.discard(node)
                self._look_over(op)

    def _paused_or_resumed(self, node: Node, old: State, new: State) -> None:
        if new is PAUSING:
            self.expect(node.wants_paused, node, "pauses, and nobody wants that")
            self.forbid(not node.can_pause, node, "pauses, and cannot")
            first = [one for one in self.dependents(node) if one.owes_pause and node in one.needs]
            if sum(command.verb == "pause" for command in self.commands) == 1:
                self.expect(not first, node, f"pauses before its dependents: {first}")
            node.life.returned -= {"on_pause", "on_resume"}
        elif new is PAUSED and node.plan.pause:
            self.forbid("on_pause" not in node.life.returned, node, "paused before its on_pause returned")
        elif new is RESUMING:
            self.expect(not node.wants_paused, node, "resumes, and nobody wants that")
        elif new is RUNNING and node.plan.pause:
            self.forbid("on_resume" not in node.life.returned, node, "running before its on_resume returned")
        if new is PAUSED and node.plan.is_group:
            late = [child for child in node.children if child.owes_pause]
            self.expect(not late, node, f"paused before its services: {late}")

    def _stopping(self, node: Node, old: State) -> None:
        node.life.ended_at = self.now()
        if not self.is_exact:
            return
        if node is self.root and old is RUNNING and not self._turns(node):
            self._finish()
        turns = self._turns(node)
        if not turns and not self._may_fall(node, old):
            self._explain(node, old)
            turns = self._turns(node)
        if node.life.may_fall and any(node.within(op.target) for op in self.doomed):
            self.is_exact = False  # either may have come first
            return
        if node.life.may_fall:
            turns = [ending for ending in turns if not self._is_to_drain(node.group, ending)]
        for ending in turns[:1]:
            ending.begun.add(node)
        if not turns:
            node.fell, node.life.lacks = True, self.missing(node) is not None
            self.expect(self._may_fall(node, old), node, f"nothing ends it now, of {self.why(node)}")
            if node.plan.is_group and node.has_started:
                self._fall_of_group(node)

    def _turns(self, node: Node) -> list[Ending]:
        return [ending for ending in self.endings if node in ending.left and self.is_turn(node, ending)]

    def _explain(self, node: Node, was: State) -> None:
        """Nothing else explains what happens to it: what may have come was."""
        if self.root.state is RUNNING:
            self._finish()
        for group in self.root.below():
            is_up = group.is_live and group.state is not STOPPING and group.has_started
            if group is not node and group.plan.is_group and is_up and self._may_fall(group, group.state):
                self._fall_of_group(group)  # it is about to stop, after this
        for op in [op for op in self.doomed if node.within(op.target)]:
            self._abort(op, None)
        if any(command.verb == "serve" and command.cancelled for command in self.commands):
            self.stop_all(was=was if node is self.root else None)

    def why(self, node: Node) -> list[str]:
        """For messages: the endings that cover it."""
        return [f"{ending.why} of {ending.target!r}" for ending in self.endings if node in ending.left]

    def _may_fall(self, node: Node, old: State) -> bool:
        """Whether it may end by itself."""
        life, now, policy = node.life, self.now(), node.policy
        if life.may_fall:
            return True
        if old is STARTING:
            return now >= life.began + policy.start_timeout - EPS
        hooks = [call for call in life.calls if call.hook in ("on_pause", "on_resume")]
        if any(now >= call.began + policy.start_timeout - EPS for call in life.calls if call.hook == "on_reload"):
            return True
        return any(now >= call.began + policy.pause_timeout - EPS for call in hooks)

    def is_to_stop(self, node: Node) -> bool:
        """Whether it stops now, and has only not said so."""
        return node.state is not STOPPING and any(
            node in ending.left and self.now() >= ending.begins and self.is_turn(node, ending, must=True)
            for ending in self.endings
        )

    def is_turn(self, node: Node, ending: Ending, *, must: bool = False) -> bool:
        """Whether it may stop now in this ending, or must: after its dependents, and when its group has drained."""
        if self.now() < (ending.begins if must else ending.may_begin) - EPS and node is not self.root:
            return False
        group = node.group
        if must and group in ending.left and any(group in one.begun for one in self.endings if one is not ending):
            return False  # that one sees to it
        if group in ending.left and (group.state is not STOPPING or self._drains(group, must)):
            return False
        return not any(node in self._needed_in(ending, other) for other in ending.left if other is not node)

    def _needed_in(self, ending: Ending, node: Node) -> set[Node]:
        """What of those that it covers this one needs, be it by way of others that are at rest."""
        found: set[Node] = set()
        queue = [node]
        while queue:
            for need in queue.pop().needs:
                if need not in found:
                    found.add(need)
                    queue += [] if need in ending.cover else need.below()
        return found

    def _drains(self, group: Node, must: bool) -> bool:
        """Whether it has time left for its on_drain. How much it has in the end of an application is not said."""
        is_cut = any(ending.target is self.root for ending in self.endings)
        timeout = 2 * EPS if is_cut else group.policy.drain_timeout
        calls = [call for call in group.life.calls if call.hook == "on_drain"]
        return any(must or self.now() < call.began + timeout - EPS for call in calls)

    def _is_to_drain(self, group: Node | None, ending: Ending) -> bool:
        """Whether its on_drain is still to be called."""
        if group not in ending.left or group is None or group.state is not STOPPING or group.fell:
            return False
        return group.plan.drain and group.has_started and "on_drain" not in group.life.called

    def _fall_of_group(self, group: Node) -> None:
        """It failed of a hook of its own: its services stop, then it does."""
        group.fell, group.life.lacks = True, self.missing(group) is not None
        group.error = group.life.raised[-1] if group.life.raised else Unknown()
        for op in self.starts:
            if group in op.begun:
                self._failed_in(op, group)
                return
        if group is self.root:
            self.stop_all(cause=group.error)
        else:
            self.end([group], "fall", partial(self._verdict, group))

    # -- what follows an end -----------------------------------------------------------------------------------------

    def _ended(self, node: Node, event: events.StateChanged) -> None:
        life, has_failed = node.life, event.new is FAILED
        self.forbid(life.calls and not life.stuck, node, f"ended amid {life.calls}")
        self.forbid(not has_failed and life.errors, node, f"stopped cleanly, in spite of {life.errors}")
        node.error = event.error
        if not self.is_exact:
            node.finished = not has_failed and life.finished
            return
        causes = [e.cause for e in self.endings if e.target is node and e.cause is not None]
        is_known = life.may_fall or life.errors or life.took_time or life.calls or causes
        self.expect(not has_failed or is_known, node, f"failed of nothing: {event.error!r}")
        node.finished = not has_failed and life.finished
        if node.fell and not has_failed:
            for command in self.commands:
                command.was_met = command.was_met or (command.node is node and node.finished)
        endings = [ending for ending in self.endings if node in ending.left]
        is_asked = any(not ending.is_clearing or node in ending.begun for ending in endings)
        ops = [op for op in self.starts if node in op.begun or node in op.pending]
        for op in [op for op in self.starts if op.target.group is node and op.target in op.pending]:
            self._drop(op)  # it waited for its group
        for op in ops:
            if has_failed and (node.fell or not is_asked or causes):
                self._failed_in(op, node)
            elif op in self.starts:
                op.pending.discard(node)
                self._look_over(op)
        for ending in endings:
            ending.left.discard(node)
            if ending in self.endings:
                self._over(ending)
        if not is_asked and not (ops and has_failed):
            self._verdict(node)

    def _verdict(self, node: Node, *, gave_up: bool = False) -> None:
        """It ended by itself."""
        if node.intent is DOWN or node.leaving or not node.may_run:
            return
        if node.state is FAILED:
            self._failed(node, gave_up=gave_up)
        elif node.finished and node is not self.root:
            if node.policy.restart == "always":
                self._restart(node)
            elif node.policy.significant:
                self._end_group(node, None)

    def _failed(self, node: Node, *, gave_up: bool = False) -> None:
        error = node.error
        if node is self.root or node.intent is DOWN or node.leaving:
            return
        group = node.group
        if group is not None and self._health_together(group, node) >= max(HEALTHY, group.delay):
            group.failures = 0
        if not gave_up and _holds(error, "Escalate"):
            self._give_up(node)
        elif node.policy.restart == "never" or (not gave_up and _holds(error, "DoNotRestart")):
            if node.policy.significant:
                self._give_up(node)
        elif node.life.lacks:
            self._restart(node, delayed=False)
        else:
            self._count(node, gave_up=gave_up)

    def _count(self, node: Node, *, gave_up: bool) -> None:
        group = node.group
        assert group is not None
        if not gave_up:
            self._rest(node)
        node.failures += 1
        is_parkable = node.policy.on_exhausted == "park"
        recent = node.recent if is_parkable else group.recent_below
        recent.append(self.now())
        recent[:] = [when for when in recent if when > self.now() - WINDOW]
        most = 10 if is_parkable else max(10, 3 * len(group.children))
        if node.failures < IN_A_ROW and len(recent) <= most:
            self._restart(node)
        elif is_parkable:
            node.parked = True
            node.owes.add("parked")
        else:
            self._give_up(node)

    def _rest(self, node: Node) -> None:
        """After enough health it is as good as new."""
        life = node.life
        if life.ready_at is not None and life.ended_at - life.ready_at >= max(HEALTHY, node.delay):
            node.failures = 0

    def _health_together(self, group: Node, failed: Node) -> float:
        """For how long all that shall be up in a group was up."""
        since = [group.life.ready_at]
        for child in group.children:
            if child is failed or child.state in READY:
                since.append(child.life.ready_at)
            elif child.state in (BACKOFF, STARTING, STOPPING):
                return 0.0
        return 0.0 if None in since else self.now() - max(when for when in since if when is not None)

    def _restart(self, node: Node, *, delayed: bool = True) -> None:
        due = node.due = Due(at=self.now(), told=False, delayed=delayed)
        if node.finished:
            self._rest(node)
        elif node.life.was_ready:
            others = [other for other in self.strategy_set(node) if other.is_live and not other.leaving]
            if others:
                due.blocked = self._clearing_of(others) or self._take_along(node, others)

    def _clearing_of(self, others: list[Node]) -> Ending | None:
        """One under way that all of these are in already."""
        clearings = (ending for ending in self.endings if ending.is_clearing and ending.left.issuperset(others))
        return next(clearings, None)

    def _take_along(self, node: Node, others: list[Node]) -> Ending:
        clearing = self.end(others, "strategy", target=node, is_clearing=True)
        clearing.then = partial(self._follow, node, others, clearing)
        return clearing

    def strategy_set(self, node: Node) -> list[Node]:
        """Who is stopped and started again because it failed."""
        assert node.group is not None
        others = [other for other in node.group.children if other is not node]
        if node.group.strategy == "one_for_one":
            return []
        if node.group.strategy == "one_for_all":
            return others
        found = {node}
        while more := {o for o in others if any(n.within(f) for n in o.needs for f in found)} - found:
            found |= more
        return [other for other in others if other in found]

    def _follow(self, node: Node, others: list[Node], clearing: Ending) -> None:
        needed = self.needed_by(node)
        for other in others:
            if other.policy.restart == "never" or other.intent is DOWN or other.leaving:
                continue
            waits_itself = other.due is not None and other.due.after is None and other.due.with_ is None
            if other in clearing.begun and not other.is_live and other.may_run and not waits_itself:
                is_needed = other in needed
                after, with_ = (None, node) if is_needed else (node, None)
                other.due = Due(at=self.now(), told=False, after=after, with_=with_)

    def needed_by(self, node: Node) -> set[Node]:
        """All that must be there before it can be."""
        found: set[Node] = set()
        queue = [node]
        while queue:
            for need in queue.pop().needs:
                more = {*need.below(), *need.above()} - found
                found |= more
                queue += more
        return found

    def _give_up(self, node: Node) -> None:
        assert node.group is not None
        node.group.owes.add(f"gave up: {node.path}")
        self._end_group(node, node.error)

    def _end_group(self, node: Node, error: BaseException | None) -> None:
        group = node.group
        assert group is not None
        if group is self.root:
            self.stop_all(cause=error)
        elif group.is_live and group.state is not STOPPING:
            group.life.lacks = self.missing(group) is not None
            self.end([group], "end of group", lambda: self._group_over(group, error), cause=error)

    def _group_over(self, group: Node, error: BaseException | None) -> None:
        group.finished = group.state is STOPPED
        self._verdict(group, gave_up=error is not None)

    def _finish(self) -> None:
        if self.is_finished():
            failed = [one.error for one in self.root.below() if one.state is FAILED]
            self.stop_all(was=STOPPED, cause=failed[0] if failed else None)

    def is_finished(self) -> bool:
        """Whether every service has ended by itself."""
        services = [node for node in self.root.below() if not node.plan.is_group]
        if (
            not self.ends_itself
            or self.starts
            or not services
            or any(node.is_live for node in services)
            or self.root.intent is not UP
        ):
            return False
        return all(map(self._has_ended, self.root.children))

    def _has_ended(self, node: Node) -> bool:
        """Whether it has ended by itself, and all in it."""
        if node.intent is not UP or node.parked:
            return False
        if node.state in READY:
            return node.plan.is_group and all(map(self._has_ended, node.children))
        if node.due is not None:
            return node.due.at <= self.now() + EPS and any(map(self._is_lost, node.needs))
        return node.state is FAILED or (node.state is STOPPED and (node.finished or node.policy.restart == "never"))

    def _is_lost(self, need: Node) -> bool:
        """Whether it is away for good, or part of it."""
        around = [*need.below(), *need.above()]
        return any(not one.finished and not one.is_live and self._has_ended(one) for one in around)


def _holds(error: BaseException | None, kind: str) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds(one, kind) for one in error.exceptions)
    return type(error).__name__ == kind
