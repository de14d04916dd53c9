"""The application that a composition stands for, built: every service made, then put in its place.

Services are made before any is added, those first that others are given as parameters; they are added in the
order of the file. A constructor's ValueError or TypeError, and whatever the kernel objects to, are problems that
name the table; anything else that is raised is TargetFailed. An application that a factory gives becomes a group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from plait._kernel.application import Application
from plait._kernel.graph import check
from plait._kernel.group import Group, check_name
from plait._kernel.hooks import HOOKS, Hooks
from plait._kernel.record import Record
from plait._kernel.service import Service
from plait.errors import InvalidTree, OptionsError, Problem, TargetFailed, UsageError
from plait.options.make import arguments_of, make, masked
from plait.plugins.compose import Composition, Entry, find, path_of
from plait.plugins.factory import checked
from plait.plugins.lookup import load_object, told
from plait.plugins.use import Use


def build(composition: Composition) -> Application:
    """The application; raises OptionsError with everything wrong, or TargetFailed."""
    building = _Building(composition)
    application = building.application()
    if not building.problems:
        building.check(application)
    if building.problems:
        raise OptionsError(building.problems)
    return application


@dataclass(slots=True)
class _Building:
    composition: Composition
    made: dict[tuple[str, ...], Service | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, entry: Entry, key: str, expected: str) -> None:
        self.problems.append(Problem(f"{self.composition.tables.place} [{entry.key}]", key, "", expected))

    def application(self) -> Application:
        """The root, with all services made and added; what could not be is left out and told."""
        composition = self.composition
        settings: dict[str, Any] = dict(composition.settings.values)
        settings["name"] = settings["name"] or _file_name(composition)
        try:
            application = Application(**settings)
        except (ValueError, TypeError) as error:
            self.problems.append(Problem(f"{composition.tables.place} [application]", "application", "", str(error)))
            return Application("application")
        for entry in composition.entries():
            self.make(entry, ())
        for entry in composition.entries():
            self.add(entry, application)
        return application

    def check(self, application: Application) -> None:
        """Needs and cycles, as the start will check them."""
        try:
            check(application._record)
        except InvalidTree as error:
            place = f"{self.composition.tables.place} [services]"
            self.problems += [Problem(place, "needs", "", line) for line in str(error).splitlines()]

    # -- making -------------------------------------------------------------------------------------------------------

    def make(self, entry: Entry, above: tuple[Entry, ...]) -> Service | None:
        """The entry's service; made once, after those it is given. None if something was wrong."""
        if entry in above:
            names = " is given ".join(repr("/".join(one.path)) for one in (*above[above.index(entry) :], entry))
            self.problem(entry, "options", f"a cycle, in which nothing could be made first: {names}")
            return None
        if entry.path not in self.made:
            made = self._group(entry) if entry.use is None else self._made(entry, entry.use, (*above, entry))
            self.made.setdefault(entry.path, made)
        return self.made[entry.path]

    def _group(self, entry: Entry) -> Group:
        return Group(strategy=entry.settings.values.get("strategy") or "one_for_one")  # type: ignore[arg-type]

    def _made(self, entry: Entry, use: Use, above: tuple[Entry, ...]) -> Service | None:
        before = len(self.problems)
        arguments = self._arguments(entry, use, above)
        if len(self.problems) > before:
            return None
        try:
            return self._called(use, arguments, entry)
        except (UsageError, InvalidTree, ValueError, TypeError) as error:
            assert entry.options is not None
            said = masked(entry.options, " ".join(str(error).split()))
            subject = "" if said.startswith(use.subject) else f"{use.subject}: "
            self.problem(entry, "options" if entry.options.values else "use", subject + said)
            return None
        except (Exception, SystemExit) as error:
            raise TargetFailed(
                f"{self.composition.tables.place} [{entry.key}]: {use.subject} raised {told(error)}"
            ) from error

    def _called(self, use: Use, arguments: dict[str, Any], entry: Entry) -> Service:
        result = use.make(**arguments)
        try:
            made = checked(result, use.subject)
        except TargetFailed as error:
            raise UsageError(str(error)) from None
        return as_group(made, entry.path) if isinstance(made, Application) else made

    def _arguments(self, entry: Entry, use: Use, above: tuple[Entry, ...]) -> dict[str, Any]:
        assert entry.options is not None
        if use.factory is not None:
            return self._options(entry, use)
        found: list[Problem] = []
        arguments = arguments_of(entry.options, use.parts, "", found)
        self.problems += [
            Problem(f"{self.composition.tables.place} [{entry.key}.options]", one.key, one.value, one.expected)
            for one in found
        ]
        given = entry.options.found
        arguments = {name: value for name, value in arguments.items() if name in given.values or name in given.present}
        for name in arguments:
            if name in use.services and arguments[name] is not None:
                arguments[name] = self._other(entry, use, name, str(arguments[name]), above)
            elif name in use.callables and arguments[name] is not None:
                arguments[name] = self._callable(entry, name, str(arguments[name]))
        return arguments

    def _options(self, entry: Entry, use: Use) -> dict[str, Any]:
        assert use.factory is not None
        assert entry.options is not None
        if use.factory.parameter is None:
            return {}
        found: list[Problem] = []
        options = make(entry.options, use.factory.options_class, found)
        for one in found:
            place = f"{self.composition.tables.place} [{entry.key}.options]"
            self.problems.append(Problem(place, one.key, one.value, one.expected))
        return {use.factory.parameter: options}

    def _other(self, entry: Entry, use: Use, parameter: str, name: str, above: tuple[Entry, ...]) -> object:
        """The service that a parameter names, or what it stands for."""
        other = find(self.composition, path_of(entry, name))
        if other is None:
            self.problem(
                entry, f"options.{parameter}", f"{name!r} is inside what a factory makes; name a service of the file"
            )
            return None
        made = self.make(other, above)
        wanted = use.services[parameter]
        given = made if made is None or made._stands_for is None else made._stands_for
        if given is None or isinstance(given, wanted):
            return given
        self.problem(
            entry, f"options.{parameter}", f"takes a {wanted.__name__}; service {name!r} is a {type(given).__name__}"
        )
        return None

    def _callable(self, entry: Entry, parameter: str, text: str) -> object:
        try:
            if ":" not in text:
                raise UsageError(f"{text!r} names no callable; write module:attr")
            thing = load_object(text)
        except UsageError as error:
            self.problem(entry, f"options.{parameter}", str(error))
            return None
        if not callable(thing):
            self.problem(entry, f"options.{parameter}", f"{text!r} cannot be called")
        return thing

    # -- adding -------------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, application: Application) -> None:
        """Puts the entry's service in its group, with what it needs and its policy."""
        made = self.made.get(entry.path)
        group = self.made.get(entry.path[:-1]) if len(entry.path) > 1 else application
        if made is None or not isinstance(group, Group):
            return
        others = [self.made.get(path_of(entry, name)) for name in entry.named().values()]
        needs: list[Service | str] = [*entry.needs, *(other for other in others if other is not None)]
        try:
            group.add(made, entry.path[-1], needs=needs, **entry.policy())
        except (ValueError, TypeError, InvalidTree) as error:
            self.problem(entry, "use" if entry.use else "services", str(error))


def _file_name(composition: Composition) -> str:
    try:
        return check_name(composition.path.stem)
    except ValueError:
        return "application"


def as_group(application: Application, path: tuple[str, ...]) -> Group:
    """A group of the application's services, to stand at `path` of another tree.

    Paths from the root in their needs are paths from the group now. UsageError if the application has hooks of
    its own, which a group could not call.
    """
    kind = type(application)
    if any(getattr(kind, hook) is not getattr(Hooks, hook) for hook in HOOKS):
        raise UsageError(f"{kind.__name__} has hooks of its own, so it cannot become a group; return a Group instead")
    group = Group(strategy=application.strategy)
    record = application._record
    assert record.children is not None
    assert group._record.children is not None
    group._record.children.update(record.children)
    record.children.clear()
    for child in group._record.children.values():
        child.parent = group._record
    for one in group._record.below():
        one.needs = tuple(_moved(need, path, record, group) for need in one.needs)
    return group


def _moved(need: Record | str, path: tuple[str, ...], old: Record, group: Group) -> Record | str:
    if need is old:
        return group._record
    return f"/{'/'.join(path)}{need}" if isinstance(need, str) and need.startswith("/") else need
