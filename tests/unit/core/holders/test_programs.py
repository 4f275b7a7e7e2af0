"""Which program made a rule."""

from __future__ import annotations

import pytest

from lab.core.holders.find import holders
from lab.core.holders.model import Recorded
from lab.core.holders.programs import program_of

RULES = {
    "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE": "docker",
    "-A DOCKER -d 172.17.0.2/32 -p tcp -j DNAT --to-destination 172.17.0.2:80": "docker",
    "-A KUBE-MARK-MASQ -j CONNMARK --set-mark 1": "kube-proxy",
    "-A ufw-before-input -m conntrack --ctstate ESTABLISHED -j ACCEPT": "ufw",
    "-A LIBVIRT_PRT -s 192.168.122.0/24 -j MASQUERADE": "libvirt",
    "-A IN_public_allow -p tcp -m conntrack --ctstate NEW -j ACCEPT": "firewalld",
    "-A LOCALINPUT -m state --state NEW -j ACCEPT": "CSF",
    "-A INPUT -m conntrack --ctstate NEW -j my-chain": None,
    "-A MYDOCKER -m conntrack --ctstate NEW -j ACCEPT": None,
}


@pytest.mark.parametrize(("rule", "program"), RULES.items())
def test_a_rule_of_a_program_names_it(rule: str, program: str | None) -> None:
    (holder,) = holders(Recorded((6, 1), iptables_legacy=f"*nat\n{rule}\nCOMMIT\n"))
    found = program_of(holder)
    assert (None if found is None else found.name) == program


def test_an_owner_is_the_program() -> None:
    text = "table inet mine { # progname httpd\n\tflags owner\n\tchain c {\n\t\tct state new accept\n\t}\n}\n"
    (holder,) = holders(Recorded((6, 12), nft_text=text))
    found = program_of(holder)
    assert found is not None
    assert (found.name, found.stop) == ("httpd", "stop httpd")


def test_what_stops_it_is_said_of_all() -> None:
    from lab.core.holders.programs import _PROGRAMS

    assert all(one.stop and one.risk for _, one in _PROGRAMS)
