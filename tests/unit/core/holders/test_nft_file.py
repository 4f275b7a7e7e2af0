"""Files for `nft -f`, in the forms that people write."""

from __future__ import annotations

import pytest

from lab.core.holders.find import holders
from lab.core.holders.model import Recorded
from lab.core.holders.nft_file import as_listed, nft_tables

FILE = """\
#!/usr/sbin/nft -f
table ip gone { chain c { ct state new accept; } }
flush ruleset
define wan = { eth0, eth1 }
table filter { chain input { type filter hook input priority 0; policy drop; \\
  ct state vmap { established : accept, invalid : drop }; iif $wan tcp dport { 22, 80 } accept; } }
add table inet x
add chain inet x post { type nat hook postrouting priority 100 ; }
add rule inet x post oifname "eth0" masquerade
table inet y { set s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
 chain c { comment "hi { there"
  meta mark set ct mark # a comment with a bracket {
  ip saddr @s drop } }
delete table inet y
"""


def test_what_a_file_leaves_is_what_counts() -> None:
    found = holders(Recorded((6, 1), nft_text=FILE))
    assert [(one.family, one.table, one.chain, one.depends_on) for one in found] == [
        ("ip", "filter", "input", ("ct state",)),
        ("inet", "x", "post", ("masquerade",)),
    ]
    assert (found[0].part_of_firewall, found[0].reachable) == (True, True)


def test_what_has_no_handle_has_no_command() -> None:
    assert not any(one.remove for one in holders(Recorded((6, 1), nft_text=FILE)))


def test_variables_are_filled_in() -> None:
    assert "iif { eth0, eth1 } tcp dport { 22, 80 } accept" in as_listed(FILE)


def test_a_list_is_read_as_it_is() -> None:
    text = "table inet t {\n\tchain c {\n\t\tct state new accept # handle 4\n\t}\n}\n"
    (table,) = nft_tables(text)
    assert table.rules[0].handle == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('include "/etc/nft/*.nft"\n', "includes '/etc/nft"),
        ("table inet t {\n chain c {\n ct state new\n", "not closed"),
        ("hello world\n", "no command"),
        ("table inet t { " + "x { " * 100, "nested too deep"),
    ],
)
def test_what_is_no_file_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nft_tables(text)


def test_a_cut_list_is_no_file() -> None:
    with pytest.raises(ValueError, match="cut"):
        nft_tables("table inet t { # handle 1\n\tchain c { # handle 2\n")


def test_reading_is_linear() -> None:
    rules = "".join(f"add rule ip t c tcp dport {port} ct state new accept\n" for port in range(20000))
    assert len(nft_tables(f"table ip t {{ chain c {{ }} }}\n{rules}")[0].rules) == 20000
