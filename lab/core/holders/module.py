"""What the module itself holds: its option, the l3 modules before 4.14, and the command that unloads them all."""

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lab.core.holders.dependents import (
    ALWAYS_ON_MODULES,
    ENABLE_HOOKS_SINCE,
    HOOKED_FAMILIES,
    ON_DEMAND_SINCE,
    OPENVSWITCH_SINCE,
    OPENVSWITCH_UNTIL,
)
from lab.core.holders.model import KERNEL, OPENVSWITCH, Holder, Recorded
from lab.core.kernel.conntrack import Module, conntrack_module

_BUILT_IN: Final = "built into the kernel, where nothing unloads it: notrack keeps packets out"
_OF_KERNEL: Final = Holder(
    kind="module",
    backend=KERNEL,
    family="",
    table="",
    chain="",
    handle=None,
    number=None,
    rule="",
    depends_on=(),
    reachable=None,
    families=(),
    remove=(),
)
_TRUE: Final = frozenset({"", "1", "y", "Y", "on", "true"})  # kstrtobool(); a bool parameter without value is true


def option_holders(recorded: Recorded, loaded: tuple[Module, ...] | None) -> Iterator[Holder]:
    """The option that attaches the hooks whenever the module is loaded. It cannot be read back (mode 0000), so this
    is what the configuration says; it counts when the module is there."""
    present = loaded is None or any(module.name == "nf_conntrack" for module in loaded)
    if recorded.kernel < ENABLE_HOOKS_SINCE or not present:
        return
    # the order of libkmod: the command line first, then the files; the kernel lets the last one win
    settings = [*_command_line_settings(recorded.kernel_command_line), *_modprobe_settings(recorded.modprobe_conf)]
    if settings and settings[-1][1] in _TRUE:
        yield replace(
            _OF_KERNEL,
            kind="option",
            rule=settings[-1][0],
            depends_on=("enable_hooks",),
            families=HOOKED_FAMILIES["inet"],
            remove=_unload(loaded or ()),
        )


def _modprobe_settings(text: str | None) -> Iterator[tuple[str, str]]:
    """`options nf_conntrack enable_hooks=1` of modprobe.d: the line and the value."""
    for line in re.sub(r"\\\n", " ", text or "").split("\n"):
        words = line.split()
        if len(words) > 2 and words[0] == "options" and words[1].replace("-", "_") == "nf_conntrack":
            yield from _settings(line.strip(), words[2:], "enable_hooks")


def _command_line_settings(text: str | None) -> Iterator[tuple[str, str]]:
    for word in (text or "").split():
        yield from _settings(word, [word.replace("-", "_")], "nf_conntrack.enable_hooks")


def _settings(shown: str, words: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    for word in words:
        key, _, value = word.strip('"').partition("=")
        if key == name:
            yield shown, value.strip('"')


def module_holders(recorded: Recorded, loaded: tuple[Module, ...]) -> Iterator[Holder]:
    """Before 4.14: whatever loaded the l3 module, it holds the hooks until it is unloaded; built into the kernel it
    holds them for ever, and has no line in /proc/modules.
    """
    if recorded.kernel >= ON_DEMAND_SINCE:
        return
    by_name = {module.name for module in loaded}
    known = (recorded.known_modules or "").split() if recorded.modules is not None else []
    built_in = [name for name in known if name not in by_name]
    for name in (*(module.name for module in loaded), *built_in):
        if name in ALWAYS_ON_MODULES:
            yield replace(
                _OF_KERNEL,
                kind="module",
                rule=name,
                depends_on=(name,),
                families=ALWAYS_ON_MODULES[name],
                remove=_unload(loaded) if name in by_name else (),
                advice="" if name in by_name else _BUILT_IN,
            )


def switch_holders(kernel: tuple[int, ...], loaded: tuple[Module, ...]) -> Iterator[Holder]:
    """Open vSwitch from 4.18 to 6.11: its module holds both families in every network namespace by being loaded."""
    if not OPENVSWITCH_SINCE <= kernel < OPENVSWITCH_UNTIL:
        return
    for module in loaded:
        if module.name == OPENVSWITCH:
            # its datapaths and their ports count as uses, and belong to no module (ovs_vport_add())
            in_use = (module.use_count or 0) > len(module.users)
            remove = () if in_use else _unload(loaded, (module.name,))
            yield replace(
                _OF_KERNEL,
                kind="module",
                rule=module.name,
                depends_on=(module.name,),
                families=HOOKED_FAMILIES["inet"],
                remove=remove,
                advice="" if remove else "remove its bridges, then run modprobe -r openvswitch",
            )


# What to unload first among modules that do not name each other. The l3 modules are held by NAT and by the matches
# through a count alone, which /proc/modules does not explain, so the roles have to.
_UNLOAD_ORDER: Final = (
    "helper", "user", "netlink", "match", "target", "nft", "nat", "protocol", "l3", "core", "defrag",
)  # fmt: skip


def _unload(loaded: Sequence[Module], roots: Iterable[str] | None = None) -> tuple[str, ...]:
    """The `modprobe -r` that removes `roots`, or else all of connection tracking: every module after its users.

    () where one of them cannot be unloaded, or something other than a module uses one of the roots.
    """
    by_name = {module.name: module for module in loaded}
    going = {name for name in by_name if conntrack_module(name) is not None} if roots is None else set(roots)
    waiting = list(going)
    while waiting:  # and whatever else uses one of those
        users = {user for user in by_name[waiting.pop()].users if user in by_name and user not in going}
        going |= users
        waiting.extend(users)
    if any(_stays(by_name[name]) for name in going):
        return ()
    order = _users_first({name: module for name, module in by_name.items() if name in going})
    return ("modprobe", "-r", *order) if order and len(order) == len(going) else ()


def _users_first(going: Mapping[str, Module]) -> list[str]:
    """The modules in an order in which they can be unloaded; those that use each other in a ring are left out."""
    users = {name: sum(user in going for user in set(module.users)) for name, module in going.items()}
    used: dict[str, list[str]] = {}  # by each module that uses them
    for name, module in going.items():
        for user in set(module.users):
            used.setdefault(user, []).append(name)
    places = {name: (_unload_rank(name), place, name) for place, name in enumerate(going)}
    free = [places[name] for name, count in users.items() if count == 0]
    heapq.heapify(free)
    order: list[str] = []
    while free:
        *_, gone = heapq.heappop(free)
        order.append(gone)
        for name in used.get(gone, ()):
            users[name] -= 1
            if users[name] == 0:
                heapq.heappush(free, places[name])
    return order


def _stays(module: Module) -> bool:
    """Whether nothing can unload it: it has no exit function, or the kernel unloads none."""
    return module.permanent or (module.use_count is None and module.state != "Unloading")


def _unload_rank(name: str) -> int:
    fact = conntrack_module(name)
    return -1 if fact is None else _UNLOAD_ORDER.index(fact.role)
