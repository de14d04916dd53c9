"""A change of generations, as the model sees it.

Rules: the new tree is only watched for what must never be, until a calm moment at which it is found as it is
(`quiet.find`); the old one is foreseen as ever, for a reload that fails must not touch it, unless something of it runs
only once, and so is ceded. A reload is all or nothing: if it took over, the new tree is there and has been told what
operators want; if not, nothing is left of it. What runs only once never runs twice.
"""

from __future__ import annotations

from tree import Tree

from model import DOWN, HELD, READY, REST, STARTING, STOPPING, Node
from plait import events


class Switching:
    """From `old` to `new`, from the first event of the new tree to the end of the reload."""

    def __init__(self, old: Tree, new: Tree) -> None:
        self.old, self.new = old, new
        self.has_lost = False
        """Something of the new tree has ended already, or was wanted otherwise: what needs it may not be there."""
        for tree in (old, new):
            tree.model.is_changing = True
            tree.model.note("switch begins")
        new.model.is_exact, new.model.ends_itself = False, True
        old.model.is_exact = old.model.is_exact and not any(node.is_one for node in old.services)
        for node in old.services:
            there = new.model.nodes.get(node.path)
            if there is not None and not node.leaving:
                there.intent = node.intent

    def hear(self, tree: Tree, event: events.Event) -> None:
        """Before the model of that tree does."""
        if tree is self.new and isinstance(event, events.IntentChanged):
            self.has_lost = True
        if not isinstance(event, events.StateChanged) or event.path not in tree.model.nodes:
            return
        node, other = tree.model.nodes[event.path], self.new if tree is self.old else self.old
        if event.new is STARTING and node.is_one and (twin := other.model.nodes.get(node.path)) is not None:
            tree.model.forbid(twin.is_live, node, "is to run only once, and would run twice")
        elif event.new is STOPPING and tree is self.new:
            self.has_lost = True
        elif tree is self.old and self.new.model.root.state in READY:
            tree.model.is_exact = False  # it may be about to retire

    def ended(self, outcome: str) -> None:
        """The reload has, and said how."""
        model, root = self.new.model, self.new.model.root
        self.new.model.is_changing, self.old.model.is_changing = False, outcome != "failed"
        for tree in (self.old, self.new):
            tree.model.note(f"switch ends: {outcome}")
        if outcome == "failed":
            model.forbid(root.state not in REST, root, "the reload has failed, and left it")
            return
        self.old.model.is_exact = False
        model.forbid(root.state not in READY, root, "the reload has succeeded, and it is not there")
        is_asked = any(command.verb != "serve" for command in self.old.model.commands)
        for node in self.new.services if not is_asked else ():
            self._follows(node)
        for command in [command for command in self.old.model.commands if command.verb == "serve"]:
            self.old.model.commands.remove(command)
            model.commands.append(command)
            command.node, command.op = root, None

    def _follows(self, node: Node) -> None:
        model, twin = self.new.model, self.old.model.nodes.get(node.path)
        if twin is not None and not twin.leaving:
            wanted = self.old.app._root_engine.ceded.get(self.old.services[twin]._record, twin.intent)
            is_unable = wanted is HELD and node.state in READY and not node.can_pause
            model.forbid(
                node.intent is not wanted and not is_unable,
                node,
                f"is wanted {node.intent.value}, and was {wanted.value}",
            )
        is_wanted = all(one.intent is not DOWN for one in (node, *node.above()))
        is_able = (
            is_wanted and not self.has_lost and all(need.is_met for one in (node, *node.above()) for need in one.needs)
        )
        model.forbid(
            is_able and node.state not in READY,
            node,
            f"the reload has succeeded without it; wanted {node.intent.value}",
        )
