"""The lab says nothing false of states that are made to mislead it."""

from __future__ import annotations

from tests.truth.claims import falsehoods
from tests.truth.conftest import Witnessed


def test_it_says_nothing_false(witnessed: Witnessed) -> None:
    assert not falsehoods(witnessed.state, witnessed.result, witnessed.witness)
