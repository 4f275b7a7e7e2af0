"""What `--shard` takes."""

from __future__ import annotations

import pytest

from lab.core.errors import ScenarioError
from lab.core.shards import Shard, parse_shard


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "1/1001", "-1/2", "1/2/3", "1 / 2", "a/b", "٣/٤"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ScenarioError, match="--shard") as caught:
        parse_shard(text)
    assert caught.value.hint == "for example --shard 2/4"


def test_a_shard() -> None:
    assert parse_shard("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
