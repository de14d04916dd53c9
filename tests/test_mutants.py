"""The mutants (mutants.py): all of them apply to the kernel as it is, and some are tried. `make mutants` tries all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mutants

SOME = [
    "one_for_one behaves as one_for_all",
    "rest_for_one behaves as one_for_one",
    "one_for_all behaves as rest_for_one",
    "no jitter",
    "n never starts anew",
    "seventeen in a row",
    "never is restarted by a sibling",
    "no rollback",
    "the stop order is reversed",
    "a check that fails restarts",
]


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    """So that one can be picked."""
    names = [one.name for one in mutants.MUTANTS]
    assert len(names) >= 100
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("one", mutants.MUTANTS, ids=lambda one: one.name)
def test_each_still_applies(one: mutants.Mutant, tmp_path: Path) -> None:
    """Its text is there, once, and what comes of it is Python."""
    for module, _, _ in one.edits:
        file = mutants.path(module)
        copy = tmp_path / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            shutil.copy(mutants.ROOT / file, copy)
    assert mutants.mutate(tmp_path, one.edits) is None
    for module, _, _ in one.edits:
        compile((tmp_path / mutants.path(module)).read_text(), module, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_some_test_kills_it(name: str) -> None:
    """The tests of the kernel would not pass without what the mutant takes away."""
    (one,) = [one for one in mutants.MUTANTS if one.name == name]
    outcome = mutants.attempt(one)
    assert outcome.is_killed, outcome


def test_a_change_that_means_nothing_survives() -> None:
    """Or the tests would fail of anything, and prove nothing."""
    nothing = mutants.mutant("nothing", "backoff", "FIRST = 0.5", "FIRST = 0.25 * 2", mutants.BACKOFF)
    outcome = mutants.attempt(nothing)
    assert outcome.killer is None
    assert outcome.problem is None
