"""A socket filter that takes nothing: what arrives is dropped before TCP or UDP looks at it (SO_ATTACH_FILTER)."""

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_BPF_RET_K = 0x06  # linux/filter.h: return a constant, how many bytes of the packet to take


def attach_empty_filter(sock: socket.socket) -> None:
    """Attach struct sock_fprog (linux/filter.h) with the one instruction that takes 0 bytes of a packet."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET_K, 0, 0, 0))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
