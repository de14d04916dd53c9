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
from functools import partial
from typing import Any

import quiet
from clock import QuietLoop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from reloads import Switching
from tree import Frame, Part, Spec, Tree
from world import BEHAVIOURS, CHECKS, ENDS, Plan

from model import LEGAL, RUNNING, Command, Model, Node
from plait import Application, Options, Runner, State, events
from plait.errors import IllegalTransition, LifecycleError, ReloadFailed

DEFECTS = (AssertionError, AttributeError, IllegalTransition, TypeError, KeyError, asyncio.InvalidStateError)
"""What only the kernel could have raised here."""

edges: Counter[tuple[State, State]] = Counter()
"""Every move seen, of all examples."""
seen: Counter[str] = Counter()
"""What else was seen."""
steps = 0


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
        takes=_often(False, True),
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
        (("placement", "one"),),
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
    ["on_start", "on_start", "on_stop", "on_drain", "on_pause", "on_resume", "exit", "check", "ready", "on_reload"]
)
HOWS = st.sampled_from([*BEHAVIOURS, "slow", "slow", "fail", "fail", "fail_late"])
THEN = st.sampled_from([0, -1, -2, -3, -5, 0.3, 0.3, 1.1, 3.0, 12.0, 70.0])
"""What passes after a step: turns of the loop, if negative, else seconds."""
LASTING = st.sampled_from([0, -1, 0.3, 3.0, 12.0, 70.0, 70.0, 800.0])


class ModelOptions(Options):
    """What a reload reads."""

    turn: int = 0


class Lifecycle(RuleBasedStateMachine):
    """See the module's rules."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = QuietLoop()
        self.loop.clock.quiet = self._quiet
        self.calls: dict[asyncio.Task[Any], Command | None] = {}
        self.names = 0
        self.is_over = False
        self.runner: Runner | None = None
        self.environ: dict[str, str] = {}
        self.parts: dict[str, Part] = {}
        """What the next generation is made of, by path."""
        self.trees: list[Tree] = []
        """Those that are there, the one that serves first."""
        self.built: Tree | None = None
        """The one that was built last."""
        self.switch: Switching | None = None
        self.trouble: tuple[int, str, str] | None = None
        """What a service of the next generation is to do."""

    @property
    def tree(self) -> Tree:
        """The generation that serves."""
        return self.trees[0]

    @property
    def model(self) -> Model:
        return self.tree.model

    @property
    def services(self) -> dict[Node, Any]:
        return self.tree.services

    @initialize(
        tree=TREES,
        strategy=STRATEGIES,
        timeout=st.sampled_from([25.0, 25.0, 3.0, 100.0]),
        delay=st.sampled_from([0.0, 0.0, 0.0, 2.0]),
        troubles=st.lists(st.tuples(PLACES, HOOKS, HOWS), max_size=3),
        reloads=_often(False, True),
        then=THEN,
    )
    def begin(
        self,
        tree: list[Spec],
        strategy: Any,
        timeout: float,
        delay: float,
        troubles: list[tuple[int, str, str]],
        reloads: bool,
        then: float,
    ) -> None:
        self.frame = Frame(strategy, timeout, delay)
        first = Tree(self.loop.time, self.frame, {})
        for spec in tree:
            self._plant(first, spec)
        self.parts = dict(first.parts)
        if reloads:
            self.runner = Runner(self._build, environ=self.environ)
            self.runner.build()
            assert self.built is not None
            first = self.built
        else:
            self._watch(first)
        self.trees = [first]
        for place, hook, how in troubles:
            self._trouble(self._at(place), hook, how, 1)
        self._call("serve", first.model.root, (self.runner or first.app).serve)
        self._go(then)

    def _build(self, options: ModelOptions) -> Application:
        self.built = Tree(self.loop.time, self.frame, self.parts)
        self._watch(self.built)
        return self.built.app

    def _watch(self, tree: Tree) -> None:
        tree.app.subscribe(partial(self._see, tree))

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
        self._call(verb, self.model.root, self._stop if verb == "stop" else getattr(self.tree.app, verb))
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
            node = self._plant(self.tree, spec)
            self.parts[node.path] = self.tree.parts[node.path]
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
            command = self.calls[call]
            if command is not None:
                command.node.model.cancel(command)
            call.cancel()
        self._go(then)

    @rule(places=st.lists(PLACES, max_size=3), trouble=st.none() | st.tuples(PLACES, HOOKS, HOWS), then=THEN)
    def reload(self, places: list[int], trouble: tuple[int, str, str] | None, then: float) -> None:
        """With other arguments for these services, and maybe with trouble for those that hear of it first."""
        if self.runner is not None and not self._begin_again():
            paths = list(self.parts)
            for path in {paths[place % len(paths)] for place in places} if paths else ():
                if not self.parts[path].spec.plan.is_group:
                    self.parts[path] = self.parts[path].turned()
            self.environ["MODEL_TURN"] = str(int(self.environ.get("MODEL_TURN", "0")) + 1)
            self._reload(trouble)
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
        is_pending = any(command.node is self.model.root and command.verb != "serve" for command in self.model.commands)
        if self.model.root.is_live or self.loop.is_busy() or is_pending:
            return False
        is_served = any(command.verb == "serve" for command in self.model.commands)
        if self.runner is not None and not is_served and len(self.services) > 1:
            self._call("serve", self.model.root, self.runner.serve)
        else:
            self._call("start", self.model.root, self.tree.app.start)
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

    def _plant(self, tree: Tree, spec: Spec) -> Node:
        groups = tree.groups
        group = groups[spec.group % len(groups)]
        self.names += 1
        spec = tree.placed(group, spec)
        needs = tree.needs_of(group, spec)
        return tree.plant(Part(group.path, f"s{self.names}", spec, tuple(need.path for need in needs)))

    def _trouble(self, node: Node, hook: str, how: str, times: int) -> None:
        if hook == "check":
            how = CHECKS[len(how) % len(CHECKS)]
        node.script[hook] = [how] * times

    def _call(self, verb: str, node: Node, call: Callable[[], Awaitable[Any]], **how: Any) -> None:
        async def body() -> None:
            command = self.calls[task] = node.model.command(verb, node, **how)
            try:
                await call()
            except BaseException as error:
                command.node.model.returned(command, error)
                if isinstance(error, DEFECTS):
                    node.model.forbid(True, node, f"{verb} raised {error!r}")
            else:
                command.node.model.returned(command, None)

        task = self.loop.create_task(body())
        self.calls[task] = None

    async def _stop(self) -> None:
        if self.runner is not None and any(command.verb == "serve" for command in self.model.commands):
            await self.runner.stop()
        else:
            await self.tree.app.stop()

    def _reload(self, trouble: tuple[int, str, str] | None) -> None:
        runner, model = self.runner, self.model
        assert runner is not None

        async def body() -> None:
            model.note("--> reload")
            try:
                plan = await runner.reload()
            except (ReloadFailed, LifecycleError) as error:
                model.note(f"<-- reload: {error!r:.300}")
            except BaseException as error:
                model.note(f"<-- reload: {error!r:.300}")
                model.forbid(not isinstance(error, asyncio.CancelledError), model.root, f"reload raised {error!r}")
            else:
                model.note(f"<-- reload: {plan.kind} {plan.changes}")

        self.trouble = trouble
        self.calls[self.loop.create_task(body())] = None

    def _see(self, tree: Tree, event: Any) -> None:
        if tree not in self.trees:
            if not isinstance(event, events.StateChanged):
                return  # it was only built, so far
            self._begin_switch(tree)
        if self.switch is not None:
            self.switch.hear(tree, event)
        try:
            tree.model.see(event)
        except Exception as error:
            tree.model.problems.append(f"the model: {error!r} at {event}")
            tree.model.broken = error
        if isinstance(event, events.ServiceRemoved):
            self._removed(tree)
        elif isinstance(event, events.ReloadEnded):
            self._reloaded(event.outcome)

    def _begin_switch(self, tree: Tree) -> None:
        self.switch = Switching(self.tree, tree)
        self.trees.append(tree)
        if self.trouble is not None and len(tree.services) > 1:
            place, hook, how = self.trouble
            self._trouble(list(tree.services)[1:][place % (len(tree.services) - 1)], hook, how, 1)

    def _removed(self, tree: Tree) -> None:
        for path in [path for path in tree.parts if path not in tree.model.nodes]:
            if tree is self.tree:
                self.parts.pop(path, None)
        tree.prune()

    def _reloaded(self, outcome: str) -> None:
        seen[f"reload: {outcome}"] += 1
        made, now = self.built, self.tree
        assert made is not None
        if outcome in ("nothing", "live"):
            others = [part for path, part in made.parts.items() if now.parts.get(path, part) != part]
            now.model.forbid((not others) != (outcome == "nothing"), now.model.root, f"{outcome}, and not {others}")
            not_told = [part for part in others if not part.spec.plan.takes]
            now.model.forbid(not_told, now.model.root, f"live, and there are {not_told}")
            now.parts.update({part.path: part for part in others})
        if self.switch is not None:
            self.switch.ended(outcome)
            self.trees.remove(self.switch.new)
            if outcome == "generation":
                self.trees.insert(0, self.switch.new)
            self.switch = None

    def _quiet(self) -> None:
        is_reloading = any(command is None and not call.done() for call, command in self.calls.items())
        for tree in self.trees if not self.is_over else ():
            tree.model.is_served_on = is_reloading or any(other.model.root.is_live for other in self.trees)
            quiet.check(tree.model)

    def _go(self, then: float) -> None:
        global steps
        steps += 1
        if then < 0:
            for _ in range(int(-then)):
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
        elif then:
            self.loop.run_until_complete(asyncio.sleep(then))
        for tree in self.trees:
            quiet.compare(tree.model, tree.app.snapshot(), is_quiet=not self.loop.is_busy())
        self._hold()
        if self.switch is None:
            self.trees[1:] = [tree for tree in self.trees[1:] if tree.model.root.is_live or tree.model.commands]

    def _hold(self) -> None:
        for context in self.loop.failures:
            if isinstance(context.get("exception"), DEFECTS) or context.get("exception") is None:
                self.model.problems.append(f"reached the loop: {context}")
        for model in [tree.model for tree in self.trees if tree.model.problems]:
            self.is_over = True
            lines = [f"{when:10.4f} {text}" for when, text in [*model.trace[:12], *model.trace[-120:]]]
            broken = getattr(model, "broken", None)
            raise AssertionError("\n".join([*model.problems[:5], "after:", *lines])) from broken

    def teardown(self) -> None:
        """The application ends in time, and nothing is left of it."""
        try:
            if self.trees and not self.is_over:
                self._end()
        finally:
            for tree in self.trees:
                edges.update(tree.model.edges)
                seen.update(tree.model.seen)
            self.is_over = True
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            with contextlib.suppress(RuntimeError):
                self.loop.run_until_complete(asyncio.sleep(2000))
            self.loop.close()

    def _end(self) -> None:
        self._go(-1)
        model, most = self.model, self.frame.timeout + 0.1
        self._call("stop", model.root, self._stop)
        self.loop.run_until_complete(asyncio.sleep(most))
        for tree in self.trees:
            tree.model.forbid(tree.model.root.is_live, tree.model.root, f"it has not stopped within {most} s")
        self._hold()
        for tree in self.trees:
            assert not tree.model.commands, tree.model.commands
            engine = tree.app._root_engine
            timers = len(engine.deadlines) if engine.is_open else 0
            assert (engine.alive, engine.operations, timers) == (0, [], 0)
        self.loop.run_until_complete(asyncio.sleep(1000))
        left = asyncio.all_tasks(self.loop)
        assert not left, left
        self._hold()


def has_seen(move: str) -> bool:
    """Whether a move, as `table` writes it, was among them."""
    return any(f"{old.value} -> {new.value}" == move for old, new in edges)


def table() -> str:
    """How often each legal move was seen, for people."""
    lines = [f"{edges[old, new]:10d}  {old.value} -> {new.value}" for old, nexts in LEGAL.items() for new in nexts]
    lines += [f"{count:10d}  {what}" for what, count in sorted(seen.items())]
    return "\n".join([f"{steps} steps", *lines])
