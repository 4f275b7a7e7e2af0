"""`nft list hooks` of real kernels: who tracks, and when the answer is unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.core.kernel import hooks
from lab.core.kernel.hooks import Hook, NftObject
from tests.recordings import GOLDEN

PROCFS = GOLDEN / "procfs"


def golden(path: str) -> str:
    return (PROCFS / path).read_text()


LISTS_HOOKS = ("6.12-debian13", "7.2-forky")  # Debian 12's kernel has the option off, Debian 11's nft lacks the command

# capture -> the families that are tracked, as one reads it in the file
TRACKED: dict[str, frozenset[str]] = {
    "pristine": frozenset(),
    "attached": frozenset({"ip"}),
    "full": frozenset({"ip"}),
    "flushed": frozenset(),
    "nft": frozenset({"ip", "ip6", "bridge"}),
}


@pytest.mark.parametrize("kernel", LISTS_HOOKS)
@pytest.mark.parametrize("state", TRACKED)
def test_tracked_families(kernel: str, state: str) -> None:
    listed = hooks.hooks(golden(f"{kernel}/{state}/nft_list_hooks"))
    assert hooks.tracked_families(listed) == TRACKED[state]


@pytest.mark.parametrize("kernel", LISTS_HOOKS)
def test_every_real_hook_is_known(kernel: str) -> None:
    for state in TRACKED:
        listed = hooks.hooks(golden(f"{kernel}/{state}/nft_list_hooks"))
        assert [hook for hook in listed if not hooks.is_known(hook)] == []


def test_hooks_of_a_real_kernel() -> None:
    listed = hooks.hooks(golden("6.12-debian13/nft/nft_list_hooks"))
    assert listed[0] == Hook("ip", "prerouting", -400, "ipv4_conntrack_defrag", "nf_defrag_ipv4")
    assert Hook("ip", "input", 2147483647, "nf_confirm", "nf_conntrack") in listed
    assert Hook("ip", "postrouting", -225, "apparmor_ip_postroute", None) in listed, "built in: no module"
    assert Hook("ip6", "output", 0, "", "nf_tables", NftObject("chain", "ip6", "only6", "c")) in listed
    assert Hook("netdev", "ingress", 0, "nf_flow_offload_inet_hook", "nf_flow_table_inet", None, "lo") in listed


def test_flowtables_of_a_new_nft() -> None:
    listed = hooks.hooks(golden("7.2-forky/nft/nft_list_hooks"))
    flowtable = NftObject("flowtable", "inet", "t", "f")
    assert Hook("netdev", "ingress", 0, "", "nf_flow_table_inet", flowtable, "lo") in listed


def test_silence_is_unknown() -> None:
    listed = hooks.hooks(golden("6.1-debian12/attached/nft_list_hooks"))
    assert listed == ()
    assert hooks.conntrack_hooks(listed) is None, "this very kernel was tracking"
    assert hooks.tracked_families(listed) is None
    strange = (Hook("ip", "input", 0, "function_of_another_planet", None),)
    assert hooks.conntrack_hooks(strange) is None, "nothing known in it: no proof that the list is real"


def hook(function: str, family: str = "ip") -> Hook:
    return Hook(family, "prerouting", 0, function, None)


@pytest.mark.parametrize(
    "function",
    ["ipv4_conntrack_in", "ipv4_conntrack_local", "ipv4_confirm", "ipv6_conntrack_in", "ipv6_confirm", "nf_confirm",
     "ipv4_helper", "nf_ct_bridge_pre"],
)  # fmt: skip
def test_conntrack_hooks_of_every_generation(function: str) -> None:
    assert hooks.conntrack_hooks([hook("nft_do_chain_ipv4"), hook(function)]) == (hook(function),)


@pytest.mark.parametrize(
    "function", ["ipv4_conntrack_defrag", "ipv6_defrag", "nf_nat_ipv4_out", "ipt_do_table", "selinux_ip_output"]
)
def test_others_are_the_negative_control(function: str) -> None:
    assert hooks.conntrack_hooks([hook(function)]) == ()


BAD = {
    "nft 0.9.8": "Error: syntax error, unexpected string\nlist hooks\n     ^^^^^\n",
    "cut": "family ip {\n\thook input {\n",
    "a bracket too many": "family ip {\n}\n}\n",
    "no family": "hook input {\n\t 0000000000 ipt_do_table [ip_tables]\n}\n",
    "no hook": "family ip {\n\t 0000000000 ipt_do_table [ip_tables]\n}\n",
    "no priority": "family ip {\n\thook input {\n\t\tipt_do_table\n\t}\n}\n",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_hooks_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="hooks"):
        hooks.hooks(text)


def test_the_error_of_an_old_nft_is_refused() -> None:
    with pytest.raises(ValueError, match="hooks line 1"):
        hooks.hooks(golden("5.10-debian11/attached/nft_list_hooks.err"))


def test_a_hook_without_a_name() -> None:
    (found,) = hooks.hooks("family ip {\n\thook input {\n\t\t-0000000001 [lsm_of_mine]\n\t}\n}\n")
    assert found == Hook("ip", "input", -1, "", "lsm_of_mine")
    assert not hooks.is_known(found)


@given(st.text(alphabet="family ip{}hook\n\t 0123+-[]_", max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        hooks.conntrack_hooks(hooks.hooks(text))
    except ValueError:
        pass
