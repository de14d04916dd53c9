"""The machine: random trees, random misbehaviour, random commands, at every moment, beside the model.

Rules: one loop and one application an example. A step gives a command, or tells a service what to do or what its next
hooks shall do, and then lets some turns of the loop or some seconds pass, so that the next step lands wherever that is.
Whenever nothing can run until time passes the model looks over everything (`quiet.check`); after each step a snapshot
is compared. At its end an application is stopped, and must end in time, with nothing left of it but what it names.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import quiet
from clock import QuietLoop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from world import BEHAVIOURS, CHECKS, ENDS, Plan, class_of

from model import LEGAL, RUNNING, Command, Model, Node
from plait import Application, Policy, State
from plait.errors import IllegalTransition

DEFECTS = (AssertionError, AttributeError, IllegalTransition, TypeError, KeyError, asyncio.InvalidStateError)
"""What only the kernel could have raised here."""

edges: Counter[tuple[State, State]] = Counter()
"""Every move seen, of all examples."""
seen: Counter[str] = Counter()
"""What else was seen."""
steps = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """One service of a tree: numbers are looked up modulo what there is."""

    plan: Plan
    group: int
    needs: tuple[int, ...]
    policy: tuple[tuple[str, Any], ...]
    strategy: str


def _often(*values: Any) -> st.SearchStrategy[Any]:
    """Of these, earlier ones more often."""
    return st.sampled_from([value for place, value in enumerate(values) for _ in range(len(values) - place)])


PLANS = st.one_of(
    st.builds(
        Plan,
        start=st.booleans(),
        run=_often("plain", "unpaused", "", "heeds"),
        drain=_often(False, True),
        stop=st.booleans(),
        pause=_often(False, True),
        check=_often(False, False, True),
        enters=_often(False, False, True),
    ),
    st.builds(Plan, run=_often("plain", "unpaused", "heeds"), manual=st.just(True), pause=st.booleans()),
    st.builds(
        Plan,
        is_group=st.just(True),
        start=_often(False, True),
        drain=_often(False, False, True),
        stop=_often(False, True),
        pause=_often(False, False, True),
        check=_often(False, False, True),
    ),
)
POLICIES = st.sampled_from(
    [
        (),
        (),
        (),
        (("restart", "always"),),
        (("restart", "never"),),
        (("significant", True),),
        (("significant", True), ("restart", "never")),
        (("on_exhausted", "park"),),
        (("on_exhausted", "park"), ("restart", "always")),
        (("start_timeout", 2.0), ("stop_timeout", 1.0), ("drain_timeout", 1.0), ("pause_timeout", 1.0)),
    ]
)
STRATEGIES = _often("one_for_one", "rest_for_one", "one_for_all")
SPECS = st.builds(
    Spec,
    plan=PLANS,
    group=_often(*range(4)),
    needs=st.sampled_from([(), (), (0,), (1,), (2,), (3, 1)]),
    policy=POLICIES,
    strategy=STRATEGIES,
)
TREES = st.lists(SPECS, min_size=1, max_size=7)
PLACES = st.integers(0, 8)
VERBS = st.sampled_from(["start", "stop", "pause", "resume", "restart", "start", "stop"])
HOOKS = st.sampled_from(
    ["on_start", "on_start", "on_stop", "on_drain", "on_pause", "on_resume", "exit", "check", "ready"]
)
HOWS = st.sampled_from([*BEHAVIOURS, "slow", "slow", "fail", "fail", "fail_late"])
THEN = st.sampled_from([0, -1, -2, -3, -5, 0.3, 0.3, 1.1, 3.0, 12.0, 70.0])
"""What passes after a step: turns of the loop, if negative, else seconds."""
LASTING = st.sampled_from([0, -1, 0.3, 3.0, 12.0, 70.0, 70.0, 800.0])


class Lifecycle(RuleBasedStateMachine):
    """See the module's rules."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = QuietLoop()
        self.model = Model(self.loop.time)
        self.calls: dict[asyncio.Task[None], Command] = {}
        self.names = 0
        self.is_over = False
        self.loop.clock.quiet = self._quiet

    @initialize(
        tree=TREES,
        strategy=STRATEGIES,
        timeout=st.sampled_from([25.0, 25.0, 3.0, 100.0]),
        delay=st.sampled_from([0.0, 0.0, 0.0, 2.0]),
        troubles=st.lists(st.tuples(PLACES, HOOKS, HOWS), max_size=3),
        then=THEN,
    )
    def begin(
        self,
        tree: list[Spec],
        strategy: Any,
        timeout: float,
        delay: float,
        troubles: list[tuple[int, str, str]],
        then: float,
    ) -> None:
        self.app = Application("model", strategy=strategy, shutdown_timeout=timeout, shutdown_delay=delay)
        model = self.model
        model.root.policy, model.root.strategy, model.shutdown_delay = Policy(), strategy, delay
        self.services: dict[Node, Any] = {model.root: self.app}
        for spec in tree:
            self._plant(spec)
        for place, hook, how in troubles:
            self._trouble(self._at(place), hook, how, 1)
        self.app.subscribe(self._see)
        self._call("serve", model.root, self.app.serve)
        self._go(then)

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(place=PLACES, verb=VERBS, then=THEN)
    def command(self, place: int, verb: str, then: float) -> None:
        """An operator's command, of any service or group."""
        node = self._at(place)
        self._call(verb, node, getattr(self.services[node], verb))
        self._go(then)

    @rule(verb=_often("restart", "pause", "resume", "stop", "start"), then=THEN)
    def command_all(self, verb: str, then: float) -> None:
        """A command of the application."""
        self._call(verb, self.model.root, getattr(self.app, verb))
        self._go(then)

    @rule(place=PLACES, what=st.sampled_from(ENDS), then=THEN)
    def tell(self, place: int, what: str, then: float) -> None:
        """What runs shall end, in some way."""
        if not self._begin_again():
            self._tell(self._at(place, lambda node: node.is_live), what)
        self._go(then)

    @rule(place=PLACES, what=st.sampled_from(ENDS), others=st.lists(PLACES, max_size=2), then=THEN)
    def tell_several(self, place: int, what: str, others: list[int], then: float) -> None:
        """Several end in one turn of the loop."""
        if not self._begin_again():
            for one in (place, *others):
                self._tell(self._at(one, lambda node: node.is_live), what)
        self._go(then)

    @rule(place=PLACES, others=st.lists(PLACES, max_size=3), times=_often(4, 30), then=LASTING)
    def crash(self, place: int, others: list[int], times: int, then: float) -> None:
        """From now on these fail whenever they run, for so many times."""
        if not self._begin_again():
            for one in (place, *others):
                node = self._at(one, lambda node: bool(node.plan.run))
                self._trouble(node, "run", "fail_late" if times % 2 else "fail", times)
                self._tell(node, "fail")
        self._go(then)

    @rule(place=PLACES, hook=HOOKS, how=HOWS, times=_often(1, 2, 20), then=THEN)
    def trouble(self, place: int, hook: str, how: str, times: int, then: float) -> None:
        """The next calls of a hook shall go like this."""
        self._begin_again()
        self._trouble(self._at(place), hook, how, times)
        self._go(then)

    @rule(spec=SPECS, starts=st.booleans(), then=THEN)
    def add(self, spec: Spec, starts: bool, then: float) -> None:
        """A service more, anywhere; one less, where there are many."""
        if len(self.services) < 8:
            node = self._plant(spec)
            if starts:
                self._call("start", node, self.services[node].start)
        elif not (node := self._at(spec.group)).leaving and node.group is not None:
            call = partial(self.services[node.group].remove, node.name, dependents=starts)
            self._call("remove", node, call, dependents=starts)
        self._go(then)

    @rule(place=PLACES, then=THEN)
    def cancel(self, place: int, then: float) -> None:
        """Who waits for a command is cancelled."""
        calls = [call for call in self.calls if not call.done()]
        if len(calls) > 1 or (calls and place == 0):
            call = calls[-1 - place % len(calls)]
            self.model.cancel(self.calls[call])
            call.cancel()
        self._go(then)

    @rule(then=LASTING)
    def wait(self, then: float) -> None:
        """Time passes."""
        self._go(then)

    # -- how ---------------------------------------------------------------------------------------------------------

    def _at(self, place: int, is_apt: Callable[[Node], bool] = lambda _: True) -> Node:
        """A service or group, an apt one if there is one; only where there is none, the application."""
        everybody = [node for node in self.services if node is not self.model.root]
        nodes = list(filter(is_apt, everybody)) or everybody or [self.model.root]
        return nodes[place % len(nodes)]

    def _begin_again(self) -> bool:
        """An application that has ended does nothing more of interest: start it."""
        if self.model.root.is_live or self.loop.is_busy():
            return False
        self._call("start", self.model.root, self.app.start)
        return True

    def _tell(self, node: Node, what: str) -> None:
        life, trigger = node.life, node.trigger
        if what.startswith("spawn") and node.state is RUNNING and not node.plan.is_group:
            actor = self.services[node]
            actor.spawn(actor.aside(what.removeprefix("spawn_")))
        elif what == "cancel" and life.task is not None and node.is_live:
            life.may_fall = True
            life.task.cancel()
        elif trigger is not None and not trigger.done():
            trigger.set_result(what)

    def _plant(self, spec: Spec) -> Node:
        model = self.model
        groups = [node for node in self.services if node.plan.is_group]
        group = groups[spec.group % len(groups)]
        self.names += 1
        needs = _needs(model, list(self.services), group, spec.needs)
        policy = dict(spec.policy)
        node = Node(model, f"s{self.names}", group, spec.plan, needs, Policy(**policy))
        made = class_of(spec.plan)
        service = made(strategy=spec.strategy) if spec.plan.is_group else made()
        service.node = node
        node.strategy, node.is_late = spec.strategy, model.root.is_live
        model.nodes[node.path] = node
        model.note(f"add {node.path} {spec.plan} needs {needs} {policy} {spec.strategy if spec.plan.is_group else ''}")
        self.services[group].add(service, name=node.name, needs=["/" + need.path for need in needs], **policy)
        self.services[node] = service
        return node

    def _trouble(self, node: Node, hook: str, how: str, times: int) -> None:
        if hook == "check":
            how = CHECKS[len(how) % len(CHECKS)]
        node.script[hook] = [how] * times

    def _call(self, verb: str, node: Node, call: Callable[[], Awaitable[Any]], **how: Any) -> None:
        async def body() -> None:
            command = self.calls[task] = self.model.command(verb, node, **how)
            try:
                await call()
            except BaseException as error:
                self.model.returned(command, error)
                if isinstance(error, DEFECTS):
                    self.model.expect(False, node, f"{verb} raised {error!r}")
            else:
                self.model.returned(command, None)

        task = self.loop.create_task(body())
        self.last = task

    def _see(self, event: Any) -> None:
        try:
            self.model.see(event)
        except Exception as error:
            self.model.problems.append(f"the model: {error!r} at {event}")
            self.model.broken = error
        for node in [node for node in self.services if self.model.nodes.get(node.path) is not node]:
            del self.services[node]

    def _quiet(self) -> None:
        if not self.is_over:
            quiet.check(self.model)

    def _go(self, then: float) -> None:
        global steps
        steps += 1
        if then < 0:
            for _ in range(int(-then)):
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
        elif then:
            self.loop.run_until_complete(asyncio.sleep(then))
        quiet.compare(self.model, self.app.snapshot(), is_quiet=not self.loop.is_busy())
        self._hold()

    def _hold(self) -> None:
        model = self.model
        for context in self.loop.failures:
            if isinstance(context.get("exception"), DEFECTS) or context.get("exception") is None:
                model.problems.append(f"reached the loop: {context}")
        if model.problems:
            self.is_over = True
            lines = [f"{when:10.4f} {text}" for when, text in [*model.trace[:12], *model.trace[-120:]]]
            broken = getattr(model, "broken", None)
            raise AssertionError("\n".join([*model.problems[:5], "after:", *lines])) from broken

    def teardown(self) -> None:
        """The application ends in time, and nothing is left of it."""
        try:
            if hasattr(self, "app") and not self.is_over:
                self._end()
        finally:
            edges.update(self.model.edges)
            seen.update(self.model.seen)
            self.is_over = True
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            with contextlib.suppress(RuntimeError):
                self.loop.run_until_complete(asyncio.sleep(2000))
            self.loop.close()

    def _end(self) -> None:
        app, model = self.app, self.model
        self._go(-1)
        began = self.loop.time()
        self._call("stop", model.root, app.stop)
        most = app.shutdown_timeout + 0.1
        self.loop.run_until_complete(asyncio.sleep(most))
        model.expect(not model.root.is_live, model.root, f"it has not stopped within {most} s")
        self._hold()
        assert began >= 0
        assert not model.commands, model.commands
        engine = app._root_engine
        assert (engine.alive, engine.operations, len(engine.deadlines)) == (0, [], 0)
        self.loop.run_until_complete(asyncio.sleep(1000))
        left = asyncio.all_tasks(self.loop)
        assert not left, left
        self._hold()


def _needs(model: Model, nodes: list[Node], group: Node, places: tuple[int, ...]) -> list[Node]:
    """Of these places, those that a service of `group` can need without a cycle."""
    around = [group, *group.above()]
    later = {one for each in around for other in model.dependents(each) for one in other.below()}
    able = [node for node in nodes[1:] if node not in around and not later & set(node.below()) and not node.leaving]
    return list(dict.fromkeys(able[-1 - place] for place in places if place < len(able)))


def table() -> str:
    """How often each legal move was seen, for people."""
    lines = [f"{edges[old, new]:10d}  {old.value} -> {new.value}" for old, nexts in LEGAL.items() for new in nexts]
    lines += [f"{count:10d}  {what}" for what, count in sorted(seen.items())]
    return "\n".join([f"{steps} steps", *lines])
