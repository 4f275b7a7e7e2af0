"""Which connects have sent their SYN again: the kernel waits for an answer that does not come.

A connect that merely took long proves nothing (the event loop may have been the queue); tcp_info knows.
"""

import socket
import sys
from itertools import islice
from typing import Dict, Iterable, List, Optional, Tuple

from lab.guest.protocol_counters import tcp_ext

_TCPI_RETRANSMITS = 2  # struct tcp_info, linux/tcp.h: a byte, of the timeouts in a row
_TCPI_TOTAL_RETRANS = slice(100, 104)  # 8 bytes, then the 24th of its 32-bit fields
_MAX_EXAMINED = 4096
_MAX_ASKED = 4  # of those that wait longest
_SYNS_RESENT = "TCPSynRetrans"  # since 3.17
_STILL_IN_HOST = "TCPSpuriousRtxHostQueues"  # since 3.15


class Resends:
    """Asks sockets of this network namespace, and its counters as they were when this was made."""

    def __init__(self) -> None:
        self._syns_before, self._waiting_before = tcp_ext(_SYNS_RESENT), tcp_ext(_STILL_IN_HOST)

    def examine(self, waiting: Iterable[int]) -> Dict[str, int]:
        """How many of the sockets that wait for an answer sent their SYN again; `syns` is how many all of the examined
        ones have sent.
        """
        sent_again = [self._resent(fd) for fd in islice(waiting, _MAX_EXAMINED)]
        return {
            "examined": len(sent_again),
            "syn_retransmitted": sum(count > 0 for count in sent_again),
            "syns": len(sent_again) + sum(sent_again),
        }

    def any_of(self, waiting: Iterable[int]) -> int:
        """How many of the first few sent their SYN again."""
        return sum(self._resent(fd) > 0 for fd in islice(waiting, _MAX_ASKED))

    def of_held(self, held: List[int]) -> Optional[int]:
        """How many established connections had to send their SYN again: the first was lost on its way.

        They are asked only if any SYN was sent again in this network namespace. None where that is not known: a
        connection that was closed (-1) cannot be asked.
        """
        if self._syns_before is not None and tcp_ext(_SYNS_RESENT) == self._syns_before:
            return 0
        return None if -1 in held else sum(_tcp_info(fd)[0] > 0 for fd in held)

    def _resent(self, fd: int) -> int:
        """How often a connect without an answer has sent its SYN again.

        Up to 4.10 (measured; not in 4.14) total_retrans leaves out what netfilter drops on its way out: there the
        timeouts are what counts. A timeout while the SYN still waits in this host's own queue sends nothing, and is
        counted by TCPSpuriousRtxHostQueues (__tcp_retransmit_skb() in net/ipv4/tcp_output.c).
        """
        resent, timeouts = _tcp_info(fd)
        if resent or not timeouts or tcp_ext(_STILL_IN_HOST) != self._waiting_before:
            return resent
        return timeouts


def _tcp_info(fd: int) -> Tuple[int, int]:
    """How many segments a socket has sent again in all, and how many timeouts it has had in a row (tcp(7))."""
    with socket.socket(fileno=fd) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        sock.detach()
    return int.from_bytes(info[_TCPI_TOTAL_RETRANS], sys.byteorder), info[_TCPI_RETRANSMITS]
