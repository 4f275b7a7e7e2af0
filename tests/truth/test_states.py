"""The states as they are stored: the catalogue's, each once, each a scenario that the lab reads."""

from __future__ import annotations

import pytest

from lab.core.scenario import parse_scenario
from tests.truth.catalogue import STATES, UNDECIDED
from tests.truth.state import FOLDER, State, scenario_text

EVERY = STATES + UNDECIDED
AT_LEAST = 59  # forty, beside those that were reported


def test_there_are_many_and_each_has_its_own_name() -> None:
    assert len({state.name for state in EVERY}) == len(EVERY)
    assert len(STATES) >= AT_LEAST


def test_the_folder_has_the_catalogues_states_and_no_others() -> None:
    assert sorted(FOLDER.glob("*.toml")) == sorted(state.path for state in EVERY)


@pytest.mark.parametrize("state", EVERY, ids=lambda state: state.name)
def test_the_file_is_what_the_catalogue_says(state: State) -> None:
    """After a change: scripts/write-truth."""
    text = state.path.read_text(encoding="utf-8")
    assert text == scenario_text(state)
    assert parse_scenario(text, state.path.name).name == state.name
