"""The kernel's hooks, as the agent lists them: what nft prints, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.core.kernel.hooks import conntrack_hooks, hooks
from tests.vm.conftest import TARGETS, tracked_shell

LISTS = "debian13"  # Debian 12's kernel has no nfnetlink_hook

SCRIPT = r"""
modprobe nfnetlink_hook 2> /dev/null
iptables-legacy --append INPUT --jump ACCEPT
nft -f - << 'END'
table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }
table arp a { chain c { type filter hook input priority 5; }; }
table bridge b { chain c { type filter hook prerouting priority -3; ct state new accept; }; }
table netdev n { chain i { type filter hook ingress device lo priority 0; }; }
END
echo "by nft"
nft list hooks
echo "by the agent"
python3 -c 'from lab.guest.hooks import list_hooks; print(list_hooks(), end="")'
"""


@pytest.mark.parametrize("target", sorted({*TARGETS, LISTS}))
def test_the_agent_lists_hooks_as_nft_does(project_root: Path, target: str) -> None:
    by_nft, by_agent = tracked_shell(project_root, SCRIPT, target).partition("by nft\n")[2].split("by the agent\n")
    assert by_agent == by_nft
    listed = hooks(by_agent)
    assert listed or target != LISTS
    assert not listed or conntrack_hooks(listed), "where the kernel lists hooks, it lists conntrack's"
