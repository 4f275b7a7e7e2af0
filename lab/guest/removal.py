"""Whether the rule at a place is the expected one: numbers and handles say nothing of what they remove."""

import re
from typing import Any, Dict, List, Optional


def mismatch(listing: str, expected: Dict[str, Any]) -> Optional[str]:
    """What is at the place instead of the expected rule, in a sentence; None when that rule is there.

    `listing` is a chain as `iptables -S` or `nft -s -a list chain` prints it.
    """
    if expected["number"] is not None:
        place = "number {} of {}".format(expected["number"], expected["chain"])
        found = _rule_of_number(listing, expected["chain"], expected["number"])
    else:
        place = "handle {} of {}".format(expected["handle"], expected["chain"])
        found = _rule_of_handle(listing, expected["handle"])
    if found is not None and found == _one_line(expected["rule"]):
        return None
    there = "there is none" if found is None else "it is `{:.500}`".format(found)
    return "the rule at that place is another one: {} should be `{:.500}`, {}".format(place, expected["rule"], there)


def _rule_of_number(listing: str, chain: str, number: int) -> Optional[str]:
    rules = [line for line in listing.splitlines() if line.split(" ")[:2] == ["-A", chain]]
    return _one_line(rules[number - 1]) if 0 < number <= len(rules) else None


def _rule_of_handle(listing: str, handle: int) -> Optional[str]:
    """The lines from the one in which the rule's first bracket opens to the one that ends with its handle."""
    end = re.compile(r"\s*# handle {}$".format(handle))
    lines = listing.splitlines()
    for last, line in enumerate(lines):
        if end.search(line):
            parts = [end.sub("", line)]
            depth = _closed(parts[0])
            first = last
            while depth > 0 and first > 0:
                first -= 1
                parts.insert(0, lines[first])
                depth += _closed(lines[first])
            return _one_line(" ".join(parts))
    return None


def _closed(line: str) -> int:
    """How many more brackets close in a line than open."""
    bare = re.sub(r'"[^"]*"', "", line)
    return bare.count("}") - bare.count("{")


def _one_line(text: str) -> str:
    words: List[str] = text.split()
    return " ".join(words)
