"""Accepting through a ring: as many operations at once as the kernel says that connections wait."""

import errno
import socket
import sys
from array import array
from typing import Dict, List, Tuple

from lab.guest.accepts import Accepts, Taken, blocks
from lab.guest.uring.ring import ACCEPT, ADDRESS, ADDRESS2, FD, LONGS, TAG, WORDS, Ring, any_failed, entry

_MOST = 512
_ADDRESS_WORDS = 4  # struct sockaddr_in, of which the second has the address
_TCPI_UNACKED = slice(24, 28)  # struct tcp_info, linux/tcp.h: of a listener, how many connections wait (tcp_get_info())


class RingAccepts(Accepts):
    """Accepts IPv4 connections through a ring of this process."""

    def __init__(self, own: Tuple[str, ...] = ("",)) -> None:
        """As Accepts; raises OSError where the kernel gives no ring."""
        super().__init__(own)
        self._known: Dict[int, bool] = {}  # addresses, as numbers: whether they are the load's own
        self._ring = Ring(_MOST, 2 * _MOST)
        self._peers = array("I", [0]) * (_ADDRESS_WORDS * _MOST)
        self._sizes = array("I", [0]) * _MOST
        peers, sizes = self._peers.buffer_info()[0], self._sizes.buffer_info()[0]
        ring, size = self._ring, 4 * _ADDRESS_WORDS
        ring.write(0, entry(ACCEPT, op_flags=socket.SOCK_CLOEXEC) * _MOST)
        ring.words[TAG : _MOST * WORDS : WORDS] = array("I", range(_MOST))
        ring.longs[ADDRESS : _MOST * LONGS : LONGS] = array("Q", range(peers, peers + size * _MOST, size))
        ring.longs[ADDRESS2 : _MOST * LONGS : LONGS] = array("Q", range(sizes, sizes + 4 * _MOST, 4))

    def take(self, listener: socket.socket) -> Taken:
        """Accept what is there now, up to a bound."""
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_UNACKED.stop)
        count = min(_MOST, int.from_bytes(info[_TCPI_UNACKED], sys.byteorder))
        if not count:
            return Taken([], 0)
        self._sizes[:count] = array("I", [4 * _ADDRESS_WORDS]) * count
        self._ring.words[FD : count * WORDS : WORDS] = array("I", [listener.fileno()]) * count
        self._ring.submit(0, count, count)
        numbers, _, results = self._ring.completed()
        if len(results) != count:
            raise OSError(errno.EIO, "{} of {} accepts came back".format(len(results), count))
        peers = self._peers[1 : count * _ADDRESS_WORDS : _ADDRESS_WORDS]
        failed = [-code for code in results if code < 0] if any_failed(results) else []
        if failed:
            peers = array("I", [peers[number] for number, code in zip(numbers, results) if code >= 0])
        fds = [fd for fd in results if fd >= 0] if failed else results.tolist()
        errors = [code for code in failed if blocks(code)]
        return Taken(fds, self._strangers(peers), errors[0] if errors else 0)

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()

    def _strangers(self, peers: "array[int]") -> int:
        all_alike = peers == peers[:1] * len(peers)  # mostly, as the ports of an address come one after the other
        different = set(peers[:1] if all_alike else peers)
        for word in different.difference(self._known):
            self._known[word] = self.is_own(socket.inet_ntoa(word.to_bytes(4, sys.byteorder)))
        strange: List[int] = [word for word in different if not self._known[word]]
        return sum(word in strange for word in peers) if strange else 0
