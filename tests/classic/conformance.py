"""Twisted's own tests, as its wheel ships them, run against plait.classic: `make conformance`.

    python tests/classic/conformance.py [--only MODULE]... [--failures] [--json FILE] [--write PAGE]

Rules: each module of tests runs twice, in processes of its own: on Twisted as it is, for the total, and with every
public module of plait.classic under Twisted's name, which is arranged before trial is imported; so trial itself runs
on plait.classic. What Twisted has and plait.classic has not stays Twisted's. A test that fails counts as not
applicable only with a reason below; so does one that skips itself here and not on Twisted. Exit code 1 if any other
test fails.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, TypeVar

OURS, THEIRS = "plait.classic", "twisted"

MODULES = {
    "twisted.test.test_defer": "internet.defer",
    "twisted.internet.test.test_inlinecb": "internet.defer",
    "twisted.internet.test.test_defer_await": "internet.defer",
    "twisted.internet.test.test_defer_yieldfrom": "internet.defer",
    "twisted.trial.test.test_deferred": "internet.defer",
    "twisted.test.test_failure": "python.failure",
    "twisted.test.test_context": "python.context",
    "twisted.test.test_log": "python.log",
    "twisted.logger.test.test_buffer": "logger",
    "twisted.logger.test.test_capture": "logger",
    "twisted.logger.test.test_file": "logger",
    "twisted.logger.test.test_filter": "logger",
    "twisted.logger.test.test_flatten": "logger",
    "twisted.logger.test.test_format": "logger",
    "twisted.logger.test.test_global": "logger",
    "twisted.logger.test.test_io": "logger",
    "twisted.logger.test.test_json": "logger",
    "twisted.logger.test.test_legacy": "logger",
    "twisted.logger.test.test_levels": "logger",
    "twisted.logger.test.test_logger": "logger",
    "twisted.logger.test.test_observer": "logger",
    "twisted.logger.test.test_stdlib": "logger",
    "twisted.logger.test.test_util": "logger",
    "twisted.test.test_task": "internet.task",
    "twisted.test.test_cooperator": "internet.task",
    "twisted.application.test.test_service": "application.service",
    "twisted.test.test_usage": "python.usage",
    "twisted.python.test.test_shellcomp": "python.usage",
    "twisted.application.test.test_internet": "application.internet",
    "twisted.test.test_strports": "application.strports",
    "twisted.test.test_sob": "persisted.sob",
    "twisted.python.test.test_components": "python.components",
    "twisted.internet.test.test_address": "internet.address",
    "twisted.test.test_error": "internet.error",
    "twisted.internet.test.test_error": "internet.error",
    "twisted.internet.test.test_protocol": "internet.protocol",
    "twisted.test.test_factories": "internet.protocol",
    "twisted.internet.test.test_testing": "internet.testing",
    "twisted.test.test_iutils": "internet.utils",
    "twisted.test.test_threads": "internet.threads",
    "twisted.test.test_threadpool": "python.threadpool",
    "twisted.test.test_internet": "internet.reactor",
    "twisted.test.test_process": "internet.process",
    "twisted.test.test_abstract": "internet.abstract",
    "twisted.internet.test.test_abstract": "internet.abstract",
    "twisted.test.test_tcp": "internet.tcp",
    "twisted.test.test_unix": "internet.unix",
    "twisted.test.test_udp": "internet.udp",
    "twisted.internet.test.test_endpoints": "internet.endpoints",
    "twisted.protocols.test.test_basic": "protocols.basic",
    "twisted.test.test_protocols": "protocols.basic",
    "twisted.test.test_policies": "protocols.policies",
    "twisted.test.test_loopback": "internet.protocol",
    "twisted.test.test_ident": "protocols.basic",
    "twisted.test.test_memcache": "protocols.basic",
    "twisted.test.test_pcp": "internet.protocol",
    "twisted.test.test_socks": "internet.protocol",
    "twisted.test.test_amp": "protocols.basic",
}
"""Which of Twisted's tests are run, and what of plait.classic they are about: without it, they are left out."""

ADDED: dict[str, dict[str, Any]] = {
    "internet.defer": {
        "_T": TypeVar("_T"),
        "_DeferredListResultListT": list,
        "_DeferredListSingleResultT": tuple,
    },
    "internet.endpoints": {
        name: type(name, (), {}) for name in ("_SystemdParser", "_TCP6ServerParser", "_StandardIOParser")
    },
    "protocols.tls": {"SomeConnectionCreator": Any},
    "internet.tcp": dict.fromkeys(
        (
            "_BuffersLogs",
            "_FileDescriptorReservation",
            "_IFileDescriptorReservation",
            "_NUMERIC_ONLY",
            "_NullFileDescriptorReservation",
            "_resolveIPv6",
        )
    ),
}
"""Private names that trial or a module of tests imports at its top, and uses in annotations alone."""

RENAMED = {("internet.base", "_ThreePhaseEvent"): (f"{OURS}.internet._events", "SystemEvent")}
"""Private names whose tests say much of what is documented: ours under theirs."""

STUBS = {"cython_test_exception_raiser": {"raiser": None}}
"""Modules that are imported by tests, and are not on everybody's machine: their tests are skipped by themselves."""


def _each(home: str, reason: str, tests: str) -> dict[str, str]:
    """Several tests of one home, with one reason."""
    return {f"{home}.{test}": reason for test in tests.split()}


NOT_APPLICABLE = {
    "twisted.test.test_defer.DeferredTests.test_DEFERRED_SUBCLASSES": "reads the private list _DEFERRED_SUBCLASSES",
    "twisted.test.test_failure.FailureTests.test_repr": "wants the name of Twisted's module in the repr",
    "twisted.test.test_tcp.HalfCloseTests.testCloseWriteCloser": "waits for the private _tempDataBuffer to be empty",
    "twisted.test.test_threadpool.ThreadPoolTests.test_q": "reads the private _queue",
    "twisted.test.test_threadpool.ThreadPoolTests.test_callbackContext": "looks into the tracker of python.context",
    "twisted.internet.test.test_endpoints.WrapClientTLSTests.test_noOpenSSL": "wants TLS to need pyOpenSSL",
    "twisted.internet.test.test_endpoints.TLSEndpointsTests": (
        "has its certificates made by the private _sslverify, for pyOpenSSL"
    ),
    **_each(
        "twisted.internet.test.test_endpoints",
        "reads what pyOpenSSL, which TLS does without here, has: a method by its number, a Context",
        "SSLClientStringTests.test_ssl SSLClientStringTests.test_sslSimple SSLClientStringTests.test_sslWithDefaults "
        "ServerStringTests.test_ssl ServerStringTests.test_sslNoTrailingNewlinePem "
        "ServerStringTests.test_sslWithDefaults",
    ),
    **_each(
        "twisted.internet.test.test_endpoints",
        "reads a private name: _loadCAsFromDir, _dhFile, _TLSServerEndpoint, _creatorCallable",
        "SSLClientStringTests.test_unreadableCertificate ServerStringTests.test_sslDHparameters "
        "ServerStringTests.test_tls WrapClientTLSParserTests.test_tlsWithDefaults "
        "WrapClientTLSParserTests.test_utf8Encoding",
    ),
    "twisted.test.test_internet.ConnectorReprTests.test_tcp_repr": "wants the name of Twisted's module in the repr",
    "twisted.test.test_internet.ThreePhaseEventTests.test_finishedBeforeTriggersCleared": "reads the private state",
    **_each(
        "twisted.test.test_task",
        "the reactor is installed already, under plait's name",
        "ReactCoroutineFunctionTests.test_defaultReactor ReactTests.test_defaultReactor",
    ),
    **_each(
        "twisted.test.test_threadpool.MemoryBackedTests",
        "puts workers of its own into a private method",
        "test_tooMuchWorkBeforeStarting test_workBeforeStarting",
    ),
    "twisted.test.test_process.MockProcessTests": "mocks each system call of Twisted's own fork",
    **_each(
        "twisted.python.test.test_shellcomp.ZshTests",
        "wants Twisted's own zsh code, character for character",
        "test_zshCode test_zshCodeWithSubs",
    ),
    **_each(
        "twisted.test.test_process",
        "patches os.execvpe, which the fork of Twisted's own would call, or reads process.reapProcessHandlers, "
        "after an import of private names that fails",
        "PosixProcessPTYTests.test_errorInProcessEnded PosixProcessPTYTests.test_executionError "
        "PosixProcessTests.test_errorInProcessEnded PosixProcessTests.test_executionError",
    ),
    **_each(
        "twisted.protocols.test.test_basic.NetstringReceiverTests",
        "calls private steps of the parser",
        "test_consumeLength test_consumeLengthBorderCase1 test_consumeLengthBorderCase2 test_consumeLengthBorderCase3 "
        "test_receiveNetstringPortions_1 test_receiveTwoNetstrings",
    ),
    **_each(
        "twisted.internet.test.test_endpoints",
        "adds a plugin of Twisted's own plugin system",
        "ClientStringTests.test_stringParserWithReactor ClientStringTests.test_typeFromPlugin "
        "ServerStringTests.test_typeFromPlugin",
    ),
    **_each(
        "twisted.internet.test.test_endpoints.ParserTests",
        "calls the private _parseServer",
        "test_backlogTCP test_escape test_impliedEscape test_interfaceTCP test_modeUNIX test_simpleTCP "
        "test_simpleUNIX test_unknownType test_wantPIDUNIX",
    ),
    **_each(
        "twisted.internet.test.test_endpoints",
        "is about a private plugin class",
        "StandardIOEndpointPluginTests.test_interface StandardIOEndpointPluginTests.test_pluginDiscovery "
        "SystemdEndpointPluginTests.test_indexAndNameMutuallyExclusive SystemdEndpointPluginTests.test_interface "
        "SystemdEndpointPluginTests.test_parseIndexStreamServerINET "
        "SystemdEndpointPluginTests.test_parseIndexStreamServerINET6 "
        "SystemdEndpointPluginTests.test_parseIndexStreamServerUNIX "
        "SystemdEndpointPluginTests.test_parseNameStreamServerINET "
        "SystemdEndpointPluginTests.test_parseNameStreamServerINET6 "
        "SystemdEndpointPluginTests.test_parseNameStreamServerUNIX SystemdEndpointPluginTests.test_pluginDiscovery "
        "TCP6ServerEndpointPluginTests.test_interface TCP6ServerEndpointPluginTests.test_pluginDiscovery",
    ),
}
"""Single tests, or whole classes, with the reason."""


# -- Twisted's names for our modules ----------------------------------------------------------------------------


class Alias(Loader):
    """Gives a module that exists under another name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = importlib.import_module(self._name)
        self._spec = getattr(module, "__spec__", None)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self._spec  # which the import has just replaced


class Aliases(MetaPathFinder):
    """Finds plait.classic's public modules, and its private ones of the log, under Twisted's names."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        if top != THEIRS or not rest:
            return None
        if self._is_ours(rest):
            return ModuleSpec(fullname, Alias(f"{OURS}.{rest}"))
        if rest.startswith("logger."):  # below a package that is ours, what is Twisted's alone
            return PathFinder.find_spec(fullname, [str(self._home.joinpath(*rest.split(".")[:-1]))])
        return None

    def _is_ours(self, rest: str) -> bool:
        private = any(part.startswith("_") for part in rest.split("."))
        if private and not rest.startswith("logger."):
            return False
        return rest == "logger" or (exists(f"{OURS}.{rest}") and not is_package(f"{OURS}.{rest}"))


def exists(name: str) -> bool:
    """Whether there is such a module."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_package(name: str) -> bool:
    """Whether it is one: those stay Twisted's, since ours hold only some of their modules."""
    return hasattr(importlib.import_module(name), "__path__")


def put_in_place() -> None:
    """From now on, Twisted's names stand for our modules."""
    spec = importlib.util.find_spec(THEIRS)
    assert spec is not None
    assert spec.origin is not None
    sys.meta_path.insert(0, Aliases(Path(spec.origin).parent))
    for module, names in ADDED.items():
        if exists(f"{OURS}.{module}"):
            vars(importlib.import_module(f"{OURS}.{module}")).update(names)
    for (module, private), (home, name) in RENAMED.items():
        setattr(importlib.import_module(f"{OURS}.{module}"), private, getattr(importlib.import_module(home), name))


SECONDS = 20.0
"""How long a test may take. Trial's own two minutes are what tests that do not apply would wait for."""


# -- one module of tests, in this process -----------------------------------------------------------------------


def run_tests(name: str, on: str) -> dict[str, str]:
    """The outcome of each test: passed, skipped, or the failure's text."""
    for stub, names in STUBS.items():
        if not exists(stub):
            sys.modules[stub] = types.ModuleType(stub)
            vars(sys.modules[stub]).update(names)
    if on == "plait":
        put_in_place()
    from twisted.trial import reporter, runner, util

    util.DEFAULT_TIMEOUT_DURATION = SECONDS
    outcomes: dict[str, str] = {}

    class Collect(reporter.TestResult):  # type: ignore[misc,unused-ignore]
        def addSuccess(self, test: Any) -> None:
            outcomes.setdefault(test.id(), "passed")

        def addError(self, test: Any, error: Any) -> None:
            outcomes[test.id()] = text_of(error)

        addFailure = addError

        def addSkip(self, test: Any, reason: Any) -> None:
            outcomes.setdefault(test.id(), f"skipped: {reason}")

        def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
            outcomes.setdefault(test.id(), "passed")

        def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
            outcomes[test.id()] = "succeeded, where Twisted fails"

    runner.TrialSuite([runner.TestLoader().loadByName(name)]).run(Collect())
    return outcomes


def text_of(error: Any) -> str:
    """The traceback of a Failure, or of what sys.exc_info gives."""
    if isinstance(error, tuple):
        return f"{error[0].__name__}: {error[1]}"
    told: str = error.getTraceback()
    return told


# -- all of them ------------------------------------------------------------------------------------------------


def outcomes_of(name: str, on: str) -> dict[str, str]:
    """`run_tests` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "outcomes.json")
        command = [sys.executable, __file__, "--run", name, "--on", on, "--json", str(kept)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if not kept.exists():
            return {name: f"did not run:\n{done.stdout}{done.stderr}"}
        outcomes: dict[str, str] = json.loads(kept.read_text())
        return outcomes


def compare(modules: Sequence[str], *, failures: bool) -> dict[str, Any]:
    """Run all, print one line each, and the reasons."""
    report: dict[str, Any] = {}
    print(f"{'':46} {'passed':>7} {'failed':>7} {'n/a':>4} {'skipped':>8}   Twisted's own")
    for name in modules:
        if name in MODULES and not exists(f"{OURS}.{MODULES[name]}"):
            print(f"{name:46} left out: there is no {OURS}.{MODULES[name]}")
            continue
        theirs = outcomes_of(name, "twisted")
        ours = outcomes_of(name, "plait")
        kinds = {test: kind_of(test, outcome, theirs.get(test, "")) for test, outcome in ours.items()}
        passed_there = sum(outcome == "passed" for outcome in theirs.values())
        report[name] = {
            **{kind: sum(one == kind for one in kinds.values()) for kind in KINDS},
            "twisted": [passed_there, len(theirs)],
            "reasons": {test: reason_of(test) or ours[test] for test, kind in kinds.items() if kind == "n/a"},
            "outcomes": ours,
        }
        counts = " ".join(f"{report[name][kind]:{width}}" for kind, width in zip(KINDS, (7, 7, 4, 8), strict=True))
        print(f"{name:46} {counts}   {passed_there} of {len(theirs)}", flush=True)
        for test, kind in kinds.items():
            if kind == "passed" and reason_of(test):
                print(f"{test} passes, though it is listed as not applicable")
            if kind == "failed" and failures:
                print(f"\n--- {test}\n{ours[test]}")
    return report


KINDS = ("passed", "failed", "n/a", "skipped")
"""What a test may count as: skipped are those that skip themselves on Twisted too."""


def kind_of(test: str, outcome: str, theirs: str) -> str:
    """What a test counts as, of its outcome here and on Twisted."""
    if outcome == "passed":
        return "passed"
    if outcome.startswith("skipped"):
        return "skipped" if theirs.startswith("skipped") else "n/a"
    return "n/a" if reason_of(test) else "failed"


def reason_of(test: str) -> str | None:
    """Why a test, or all of its class, does not apply."""
    return NOT_APPLICABLE.get(test) or NOT_APPLICABLE.get(test.rpartition(".")[0])


def reasons(report: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """For each module and reason, the tests that do not apply."""
    for name, module in report.items():
        for reason in dict.fromkeys(module["reasons"].values()):
            tests = [test.removeprefix(f"{name}.") for test, why in module["reasons"].items() if why == reason]
            yield name, reason, tests


def tell_reasons(report: dict[str, Any]) -> None:
    """Why tests do not apply, and what was added for the others."""
    print("\nnot applicable:")
    for name, reason, tests in reasons(report):
        print(f"  {name}: {reason}: {' '.join(tests)}")
    print("added, since trial or a module of tests imports it:")
    for module, names in ADDED.items():
        print(f"  {OURS}.{module}: {', '.join(names)}")


def write(report: dict[str, Any], page: Path) -> None:
    """Put the table and the reasons between the marks of a page."""
    lines = [
        "| tests | passed | failed | not applicable | skipped | on Twisted, passed of |",
        "|---|---|---|---|---|---|",
    ]
    for name, module in report.items():
        counts = " | ".join(str(module[kind]) for kind in KINDS)
        lines.append(f"| {name} | {counts} | {module['twisted'][0]} of {module['twisted'][1]} |")
    totals = " | ".join(str(sum(module[kind] for module in report.values())) for kind in KINDS)
    passed, total = (sum(module["twisted"][which] for module in report.values()) for which in (0, 1))
    lines += [f"| all | {totals} | {passed} of {total} |", "", "Not applicable:", ""]
    lines += [f"- `{name}`: {reason}: {told(tests)}" for name, reason, tests in reasons(report)]
    added = "; ".join(f"`{module}`: {', '.join(f'`{one}`' for one in names)}" for module, names in ADDED.items())
    lines += ["", f"Names that the runner adds, since trial or a module of tests imports them at its top: {added}."]
    opening, _, rest = page.read_text().partition(MARKS[0])
    page.write_text(f"{opening}{MARKS[0]}\n{chr(10).join(lines)}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


MARKS = ("<!-- conformance -->", "<!-- /conformance -->")


def told(tests: Sequence[str]) -> str:
    """Tests by their names, where they are few; many of one class by that."""
    homes = {test.rpartition(".")[0] for test in tests}
    if len(tests) > 3 and len(homes) == 1:
        return f"{len(tests)} of `{homes.pop()}`"
    return ", ".join(f"`{test}`" for test in tests)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run Twisted's tests against plait.classic.")
    parser.add_argument("--only", action="append", metavar="MODULE", help="this module of tests; may be repeated")
    parser.add_argument("--failures", action="store_true", help="show the traceback of each test that fails")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes to FILE")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks of PAGE")
    parser.add_argument("--run", metavar="MODULE", help=argparse.SUPPRESS)
    parser.add_argument("--on", choices=["plait", "twisted"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != str(Path(__file__).parent)]
        arguments.json.write_text(json.dumps(run_tests(arguments.run, arguments.on)))
        return 0
    report = compare(arguments.only or list(MODULES), failures=arguments.failures)
    tell_reasons(report)
    if arguments.write:
        write(report, arguments.write)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(module["failed"] for module in report.values()))


if __name__ == "__main__":
    sys.exit(main())
