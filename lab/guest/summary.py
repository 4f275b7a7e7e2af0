"""What a load says of itself at its end: counts, outcomes of its sides, and its addresses; of a family or of all."""

from typing import Any, Dict, List, Sequence

from lab.guest import paths
from lab.guest.kinds import LoadRequest, Wave
from lab.guest.paths import CLIENT, SERVER
from lab.guest.tally import COUNTS, total
from lab.guest.worker import Message, Worker


def summary(
    request: LoadRequest, waves: Sequence[Wave], workers: Sequence[Sequence[Worker]], families: Sequence[str]
) -> Dict[str, Any]:
    """What concerns these families of a load whose workers have told their outcomes."""
    mine = [
        [one for work, one in zip(wave.work, ours) if work.family in families] for wave, ours in zip(waves, workers)
    ]
    every = [worker for wave in mine for worker in wave]
    clients = _outcomes(every, CLIENT)
    found: Dict[str, Any] = {
        "progress": total(mine[0], COUNTS),
        "newcomers": None,
        "clients": clients,
        "servers": _outcomes(every, SERVER),
        "sources": "|".join(paths.source_pattern(request.path, family) for family in families),
        "ports": [port for wave in waves for family, port in wave.ports if family in families],
        "networks": [network for family in families for network in paths.networks(request.path, family)],
        "source_networks": [one for family in families for one in paths.source_networks(request.path, family)],
        "listeners": [list(one) for wave in waves for family, one in wave.listeners if family in families],
    }
    if len(waves) > 1:
        found["newcomers"] = dict(total(mine[1], COUNTS), connections=_connections(waves[1], families))
    if request.data:
        found["exchange"] = {name: sum(client.get(name, 0) for client in clients) for name in ("asked", "answered")}
    return found


def _connections(wave: Wave, families: Sequence[str]) -> int:
    return sum(listener[2] for family, listener in wave.listeners if family in families)


def _outcomes(workers: Sequence[Worker], role: str) -> List[Message]:
    return [worker.latest["outcome"][role] for worker in workers if role in worker.latest["outcome"]]
