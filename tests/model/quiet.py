"""The model's claims of quiet moments: nothing can run any more until time passes, so what is owed has happened.

Rules: who is on the way somewhere has a reason to be, which leads to somebody who is busy in a hook, to a delay, or to
an operator. Where nobody is busy at all, no command is under way and everybody is where he is wanted. `compare` holds
what a snapshot shows against what the model knows; health is computed anew, from the contract's words.
"""

from __future__ import annotations

from collections.abc import Iterator

from model import (
    BACKOFF,
    DOWN,
    EPS,
    FAILED,
    NEW,
    PAUSED,
    PAUSING,
    READY,
    RESUMING,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    WINDOW,
    Model,
    Node,
)
from plait import Snapshot


def check(model: Model) -> None:
    """Everything that can be said of a quiet moment."""
    nodes = list(model.root.below())
    if not any(map(_is_on_the_way, nodes)):
        _check_calm(model, nodes)
    if not model.is_exact:
        return
    for command in model.commands:
        if command.op is not None and command.op not in model.starts:
            command.op.by.clear()  # they have heard of it
    model.ghosts = [one for one in model.ghosts if _is_on_the_way(one.node) or one.op in model.starts]
    for node in nodes:
        _check_rest(model, node)
        if node.is_live:
            _check_way(model, node)
    for ending in model.endings:
        for node in ending.left if ending.is_sure and model.now() >= ending.begins else ():
            is_held_up = node.state is STOPPING or not model.is_turn(node, ending, must=True)
            model.expect(is_held_up, node, f"nothing holds up its end ({ending.why} of {ending.target!r})")
    is_sure = not any(node.state is NEW for node in nodes)  # or what was added to what has ended may count, or not
    is_over = is_sure and model.root.state is RUNNING and model.is_finished()
    model.expect(not is_over, model.root, "every service has ended, and the application has not")
    _check_told(model, nodes)


def _check_told(model: Model, nodes: list[Node]) -> None:
    """Events have said how well everybody does who runs, as long as the application does."""
    if model.root.state not in READY or model.is_changing:
        return
    health = assess(model)
    for node in nodes:
        level = health[node][0]
        is_told = node.state is not RUNNING or node.told == level
        model.expect(is_told, node, f"the last that was said of its health is {node.told}, and it is {level}")


def _is_on_the_way(node: Node) -> bool:
    return node.state in (STARTING, PAUSING, RESUMING, STOPPING)


def _check_rest(model: Model, node: Node) -> None:
    due = node.due
    model.expect(not node.owes, node, f"still to be said: {node.owes}")
    model.expect(due is None or due.told, node, "its restart was not announced")
    if due is not None and not any(op.doomed for op in due.ops):
        model.expect(not node.may_start(), node, "it may start, and has not")
    if node.state is BACKOFF:
        model.expect(due is not None, node, "in backoff, and nobody will start it")
    elif node.state in (STOPPED, FAILED) and due is not None:
        model.expect(due.ops, node, "will be started again, and is not in backoff")
    if due is not None and due.blocked is None and node.intent is DOWN:
        model.expect(due.ops, node, "will be started again, and shall be down")


def _check_way(model: Model, node: Node) -> None:
    life, state = node.life, node.state
    if not _is_on_the_way(node):
        return
    is_busy = bool(life.calls) if state is STOPPING else life.busy("on_start", "on_pause", "on_resume", "exit")
    if node.plan.is_group:
        below = [child for child in node.children if _delays(node, child)]
        is_delayed = any(model.now() < ending.begins for ending in model.endings if node is ending.target)
        is_to_stop = state is not STOPPING and any(node in ending.left for ending in model.endings)
        model.expect(is_busy or below or is_delayed or is_to_stop, node, "waits for nothing")
    elif state is STARTING and node.plan.manual:
        model.expect(is_busy or life.busy("ready"), node, "waits for nothing")
    else:
        model.expect(is_busy, node, "waits for nothing")


def _delays(group: Node, child: Node) -> bool:
    if group.state is STARTING:
        return child.state in (STARTING, STOPPING) or bool(child.due and child.due.ops)
    if group.state is STOPPING:
        return child.is_live
    if group.state is RESUMING and child.state is PAUSED and not child.wants_paused:
        return True  # after what it needs
    if group.state is PAUSING and any(_is_on_the_way(other) for other in group.model.dependents(child)):
        return True
    return _is_on_the_way(child) or child.owes_pause


def _check_calm(model: Model, nodes: list[Node]) -> None:
    """Nobody is on the way anywhere."""
    if model.is_exact and model.doomed:
        return
    for command in model.commands:
        is_serving = model.root.is_live and not command.cancelled and command.verb == "serve"
        is_serving = is_serving or model.is_served_on
        model.forbid(
            command.verb not in ("serve", "stop") or not is_serving, command.node, f"its {command.verb} does not return"
        )
    for op in model.starts:
        model.expect(False, op.target, f"its start waits for nothing: {op.pending}")
    for ending in model.endings:
        model.expect(not ending.is_sure, ending.target, f"its {ending.why} waits for nothing: {ending.left}")
    for node in nodes:
        if node.state in READY:
            wanted = PAUSED if node.wants_paused and node.can_pause else RUNNING
            model.forbid(node.state is not wanted, node, f"it should be {wanted.value}")
        if node.intent is DOWN:
            model.forbid(node.is_live, node, "it shall be down")


# -- snapshots and health ----------------------------------------------------------------------------------------------


def compare(model: Model, snapshot: Snapshot, *, is_quiet: bool) -> None:
    """A snapshot says what the model knows; of health, where all has been heard of it."""
    if is_quiet and not model.is_exact:
        _find(model, snapshot)
    health = assess(model)
    for one in snapshot.walk():
        node = model.nodes[one.path]
        intent = one.intent if model.is_changing and node.is_one else node.intent  # it may be ceded
        seen = (one.state, one.intent, one.incarnation, one.is_parked)
        known = (node.state, intent, node.life.number, node.parked)
        model.forbid(seen != known, node, f"the snapshot says {seen}, the model {known}")
        if not model.is_exact:
            continue
        counts = (one.failures, one.restarts)
        if node.is_vague or any(command.waits and node.within(command.node) for command in model.commands):
            node.failures, node.restarts = counts  # somebody is about to start it, which clears them, some turns on
            node.is_vague = False
        is_right = counts == (node.failures, node.restarts)
        model.expect(is_right, node, f"the snapshot counts {counts}, the model {node.failures, node.restarts}")
        level = health[node][0]
        is_right = not is_quiet or one.health.level.value == level
        model.expect(is_right, node, f"its health is {one.health}, and should be {level}")
        due = node.due
        is_timed = due is not None and due.delayed and due.at > model.now() + EPS
        model.expect(not is_timed or one.restart_in is not None, node, "its snapshot does not say when it starts")
        if is_timed and due is not None and one.restart_in is not None:
            model.expect(abs(due.at - model.now() - one.restart_in) < EPS, node, f"restart in {one.restart_in}")
    model.forbid(len(health) != len(list(snapshot.walk())), model.root, "the snapshot holds others")


def _is_left_alone(node: Node) -> bool:
    """At rest, and nobody remembers anything of it."""
    is_waiting = node.state is NEW and node.needs and node.intent is not DOWN
    return node.state in (NEW, STOPPED, FAILED) and not node.plan.is_group and not is_waiting


def _find(model: Model, snapshot: Snapshot) -> None:
    """Where all is calm, and nothing of what was counted matters any more, what follows can be said again."""
    nodes = list(model.root.below())
    is_plain = all(node.state in READY or _is_left_alone(node) for node in nodes)
    is_waited_for = any(command.verb != "serve" or command.cancelled for command in model.commands)
    if (
        model.is_changing
        or not is_plain
        or is_waited_for
        or any(map(_is_on_the_way, nodes))
        or model.now() < model.failed_at + WINDOW
    ):
        return
    model.starts, model.endings, model.ghosts, model.doomed = [], [], [], []
    for one in snapshot.walk():
        node = model.nodes[one.path]
        node.due, node.owes, node.recent, node.recent_below = None, set(), [], []
        node.failures, node.restarts, node.fell, node.owes_pause = one.failures, one.restarts, False, False
        node.told = one.health.level.value
    model.is_exact = True
    model.note("FOUND")


def assess(model: Model) -> dict[Node, tuple[str, bool]]:
    """The health of everybody: the level, and whether it alone makes the group unready."""
    found: dict[Node, tuple[str, bool]] = {}
    _assess(model.root, found)
    return found


def _assess(node: Node, found: dict[Node, tuple[str, bool]]) -> tuple[str, bool]:
    below = [(child, _assess(child, found)) for child in node.children]
    found[node] = _level(node, [level for child, level in below if not _is_done(child)])
    return found[node]


def _is_done(node: Node) -> bool:
    return node.finished and node.state is STOPPED


def _level(node: Node, below: list[tuple[str, bool]]) -> tuple[str, bool]:
    if _is_done(node):
        return "ready", False
    if node.state is not RUNNING:
        return "unready", node.state is STARTING and node.life.number == 1
    own = node.life.health
    if own == "unready" or any(is_hard for _, is_hard in below):
        return "unready", True
    if below and all(level == "unready" for level, _ in below):
        return "unready", False
    is_lacking = own == "degraded" or any(level != "ready" for level, _ in below) or any(_away(node))
    return ("degraded" if is_lacking else "ready"), False


def _away(node: Node) -> Iterator[bool]:
    for need in node.needs:
        for one in need.below():
            yield one.state is not RUNNING and not _is_done(one)
