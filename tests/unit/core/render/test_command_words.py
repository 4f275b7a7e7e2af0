"""Commands as people read them."""

from __future__ import annotations

from lab.core.render.command_words import command_words


def test_of_a_command_with_hundreds_of_rules_people_read_the_ends() -> None:
    assert command_words(("iptables-legacy", "-D", "INPUT", "1")) == "iptables-legacy -D INPUT 1"
    text = command_words(("sh", "-c", "first " + "-D c rule\n" * 1000 + " last"))
    assert text.startswith("sh -c 'first -D c rule")
    assert text.endswith(" last'")
    assert "[9,419 characters, which mitigation/plan.json has]" in text
    assert len(text) < 700
