"""One generation: an application, its model, and what it is made of, so that the next can be made as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from world import Plan, class_of

from model import Model, Node
from plait import Application, Policy


@dataclass(frozen=True, slots=True)
class Spec:
    """One service of a tree: numbers are looked up modulo what there is."""

    plan: Plan
    group: int
    needs: tuple[int, ...]
    policy: tuple[tuple[str, Any], ...]
    strategy: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What the application itself is made with."""

    strategy: Any
    timeout: float
    delay: float


@dataclass(frozen=True, slots=True)
class Part:
    """One service, where it stands, and what its constructor is given."""

    group: str
    name: str
    spec: Spec
    needs: tuple[str, ...]
    turn: int = 0

    @property
    def path(self) -> str:
        return self.name if self.group == "/" else f"{self.group}/{self.name}"

    def turned(self) -> Part:
        """The same, with another argument; one that can be given to it while it runs, if it has on_reload."""
        return replace(self, turn=self.turn + 1)


class Tree:
    """See the module. `parts` is what it consists of now, by path."""

    def __init__(self, now: Callable[[], float], frame: Frame, parts: dict[str, Part]) -> None:
        self.model = model = Model(now)
        self.app = Application(
            "model", strategy=frame.strategy, shutdown_timeout=frame.timeout, shutdown_delay=frame.delay
        )
        model.root.policy, model.root.strategy, model.shutdown_delay = Policy(), frame.strategy, frame.delay
        self.services: dict[Node, Any] = {model.root: self.app}
        self.parts: dict[str, Part] = {}
        for part in parts.values():
            self.plant(part)

    def plant(self, part: Part) -> Node:
        """One more, at its place."""
        model, spec = self.model, part.spec
        group, needs = model.nodes[part.group], [model.nodes[path] for path in part.needs]
        policy = dict(spec.policy)
        node = Node(model, part.name, group, spec.plan, needs, Policy(**policy))
        made = class_of(spec.plan)
        service = made(strategy=spec.strategy) if spec.plan.is_group else made(part.turn)
        service.node = node
        node.strategy, node.is_late = spec.strategy, model.root.is_live
        model.nodes[part.path], self.parts[part.path] = node, part
        model.note(f"add {part} {policy}")
        self.services[group].add(service, name=part.name, needs=["/" + need.path for need in needs], **policy)
        self.services[node] = service
        return node

    def prune(self) -> None:
        """Forget whom the model has seen go."""
        for node in [node for node in self.services if self.model.nodes.get(node.path) is not node]:
            del self.services[node]
        self.parts = {path: part for path, part in self.parts.items() if path in self.model.nodes}

    @property
    def groups(self) -> list[Node]:
        return [node for node in self.services if node.plan.is_group]

    def needs_of(self, group: Node, spec: Spec) -> list[Node]:
        """Of those that it names, the ones that a service of `group` can need without a cycle."""
        around = [group, *group.above()]
        later = {one for each in around for other in self.model.dependents(each) for one in other.below()}
        nodes = list(self.services)[1:]
        able = [node for node in nodes if node not in around and not later & set(node.below())]
        able = [node for node in able if not any(one.leaving for one in (node, *node.above()))]
        if not group.is_one and ("placement", "one") not in spec.policy:
            able = [node for node in able if not any(one.is_one for one in node.below())]
        return list(dict.fromkeys(able[-1 - place] for place in spec.needs if place < len(able)))

    def placed(self, group: Node, spec: Spec) -> Spec:
        """As it may stand there: what runs only once is not in what is needed by one that runs everywhere."""
        needing = [one for above in (group, *group.above()) for one in self.model.dependents(above)]
        if all(one.is_one for one in needing):
            return spec
        return replace(spec, policy=tuple(item for item in spec.policy if item[0] != "placement"))
