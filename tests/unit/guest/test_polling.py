"""One poll(2) of many descriptors."""

from __future__ import annotations

import os
import resource
import select

from lab.guest.polling import poll_all


def test_what_each_is_ready_for() -> None:
    read_fd, write_fd = os.pipe()
    try:
        assert list(poll_all([read_fd, -1, write_fd], select.POLLIN | select.POLLOUT)) == [0, 0, select.POLLOUT]
        os.write(write_fd, b".")
        assert list(poll_all([-11, read_fd], select.POLLIN)) == [0, select.POLLIN]
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_of_none() -> None:
    assert list(poll_all([], select.POLLIN)) == []


def test_more_that_are_closed_than_the_limit_allows() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert list(poll_all([-1] * (soft + 1), select.POLLIN)) == [0] * (soft + 1)
