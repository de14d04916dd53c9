"""Pausing and resuming many in order.

Rules:
- What the operator wants (the intent, a service's own or that of a group above it) is set before; these operations
  bring services to it, and leave alone whatever is wanted otherwise by the time its turn comes.
- Pause goes as a stop does: dependents before what they need, a group's services before its own hook. Resume goes as
  a start does. Each waits for what is on its way elsewhere.
- A service that cannot pause goes on, and is reported. One that fails of it has failed, as of anything else.
"""

from __future__ import annotations

from plait._kernel.engine import Engine
from plait._kernel.events import NotPaused
from plait._kernel.graph import needs_among
from plait._kernel.operations import Ordered
from plait._kernel.record import Record
from plait._kernel.states import PAUSED, PAUSING, READY, RESUMING, RUNNING


class Settling(Ordered):
    """What pausing and resuming have in common."""

    def __init__(self, engine: Engine, target: Record) -> None:
        super().__init__(engine, target)
        self._moving: dict[Record, None] = {}
        """Those that this has set on their way."""
        self._awaited: dict[Record, None] = {}
        """Those whose turn has come while they were on another way."""

    def on_ended(self, record: Record) -> bool:
        if record in self._members:
            if record in self._moving and record.error is not None:
                self.errors.append(record.error)
            self._settled(record)
        self._pump()
        return False

    def _settled(self, record: Record) -> None:
        """Nothing more is to be done about it."""
        del self._members[record]
        self._release_blocked(record)
        group = record.parent
        if self._less_one(group) and group in self._members:
            assert group is not None
            self._complete_group(group)

    def _complete_group(self, group: Record) -> None:
        raise NotImplementedError

    def _drop(self, record: Record) -> None:
        """Leave it alone, and all below it."""
        for one in reversed(tuple(record.below())):
            if one in self._members:
                self._settled(one)

    def _turn(self, record: Record) -> bool:
        """Whether its turn has come; one that is on another way is awaited."""
        if record not in self._members or record in self._moving:
            return False
        if record.state in (PAUSING, RESUMING):
            self._awaited[record] = None
            return False
        return True

    def on_paused(self, record: Record) -> None:
        self._arrived(record)

    def on_resumed(self, record: Record) -> None:
        self._arrived(record)

    def _arrived(self, record: Record) -> None:
        if record in self._moving or record in self._awaited:
            self._moving.pop(record, None)
            self._awaited.pop(record, None)
            self._queue.append(record)  # its turn again, to see whether it is where it is wanted
        self._pump()

    def _complete(self) -> None:
        self._close()


class Pause(Settling):
    """Bring `target`, and all below it that can pause, to PAUSED."""

    def __init__(self, engine: Engine, target: Record) -> None:
        super().__init__(engine, target)
        self.unable: list[Record] = []
        self._opened: dict[Record, None] = {}

    def launch(self) -> None:
        """Begin with what nothing depends on."""
        self._launch(record for record in self.target.below() if record.state in READY)
        for record in self._members:
            for need in needs_among(record, self._members) if record.needs else ():
                self._block(need, record)
        self._queue.extend(r for r in self._members if not self._waits.get(r) and r.parent not in self._members)
        self._pump()

    def _begin(self, record: Record) -> None:
        if not self._turn(record):
            return
        wanted = self.engine.wants_paused(record)
        if wanted and record.children is not None and record.state in (RUNNING, PAUSED):
            self._begin_group(record)
        elif not wanted or record.state is not RUNNING:
            self._drop(record)
        elif record.shape.pause or (record.life is not None and record.life.can_pause):
            self._moving[record] = None
            self.engine.pausing(record)
            self.engine.pause(record)
        else:
            self.unable.append(record)
            self.engine.emit(NotPaused, record, incarnation=record.incarnation, reason=why_not(record))
            self._settled(record)

    def _begin_group(self, group: Record) -> None:
        if group in self._opened:
            self._settled(group)
            return
        self._opened[group] = None
        if group.state is RUNNING:
            self._moving[group] = None
            self.engine.pausing(group)
        if not self._open(group):
            self._complete_group(group)

    def _complete_group(self, group: Record) -> None:
        if group.state is PAUSING:
            self.engine.pause(group)
        elif group.state is PAUSED:
            self._settled(group)


class Resume(Settling):
    """Bring `target`, and all below it that is wanted up, from PAUSED to RUNNING."""

    def launch(self) -> None:
        """Begin with what needs nothing of it."""
        engine = self.engine
        paused = (PAUSING, PAUSED, RESUMING)
        self._launch(r for r in self.target.below() if r.state in paused and not engine.wants_paused(r))
        for record in self._members:
            for need in needs_among(record, self._members) if record.needs else ():
                self._block(record, need)
        self._queue.extend(r for r in self._members if not self._waits.get(r) and r.parent not in self._members)
        self._pump()

    def _begin(self, record: Record) -> None:
        if not self._turn(record):
            return
        if record.state is not PAUSED or self.engine.wants_paused(record):
            self._drop(record)
        else:
            self._moving[record] = None
            self.engine.resume(record)

    def _complete_group(self, group: Record) -> None:
        if group.state is RESUMING:
            self.engine.resumed(group)

    def on_unheld(self, record: Record) -> None:
        if record in self._moving and not self._open(record):
            self.engine.resumed(record)
        self._pump()


def why_not(record: Record) -> str:
    """Why it cannot pause, and what would help."""
    return f"{record.subject} cannot pause; give it on_pause and on_resume, or await self.unpaused() in its run"
