"""The script that runs beside the load in each state's guest: a witness of its own, and what misleads the lab.

The witness reads the table, the sockets and the counters by itself, and writes what it sees into the kernel's log. It
shares no code with the lab, and knows of the load only where its connections come from (docs/findings.md).
"""

from __future__ import annotations

import textwrap

PATH = "/truth.py"

_HEAD = '''\
import json, os, re, socket, subprocess, time
SERVER = {server!r}  # hexadecimal, as in /proc/net/tcp
LOAD = re.compile({load!r})
CLIENT = {client!r}  # of the sockets that the load connects from
PROBE = {probe!r}  # a command that prints a number: how many packets a rule of the state has taken


def text(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def sh(command):
    return subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()


def listening():
    return re.search(SERVER + ":1E6[1-9A-F] 00000000:0000 0[7A]", text(SOCKETS["server"]) + text(SOCKETS["udp"]))


def count():
    return int(text("/proc/sys/net/netfilter/nf_conntrack_count") or 0)


def setmax(value):
    with open("/proc/sys/net/netfilter/nf_conntrack_max", "w") as file:
        file.write(str(value))


def stat(name):
    lines = [line.split() for line in text("/proc/net/stat/nf_conntrack").splitlines()]
    return sum(int(row[lines[0].index(name)], 16) for row in lines[1:]) if lines and name in lines[0] else 0


def overflows():
    names, numbers = [line.split() for line in text(SOCKETS["netstat"]).splitlines() if line.startswith("TcpExt")]
    return int(dict(zip(names, numbers))["ListenOverflows"])


def sockets(state):
    return len(set(re.findall(CLIENT + ":[0-9A-F]+ [0-9A-F]+:1[EF][0-9A-F]+ " + state, text(SOCKETS["client"]))))


def established():
    return sockets("01")


def until(condition, seconds=20):
    end = time.time() + seconds
    while not condition() and time.time() < end:
        time.sleep(.02)


def datagrams(number, first=0, port=9999):
    """Send to addresses that nobody listens at; says how many netfilter refused."""
    sender, refused = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
    for index in range(first, first + number):
        try:
            sender.sendto(b"x", ("127.2.%d.%d" % (index // 250, index % 250 + 1), port))
        except PermissionError:
            refused += 1
    return refused


def listen(port, backlog=4096):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(backlog)
    return listener


def connects(number, port):
    made = []
    for _ in range(number):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        made.append(one)
    return made


def in_namespace(path):
    """Where the files of a namespace are: those of a process in it."""
    return "/proc/%d/net/" % subprocess.Popen(["ip", "netns", "exec", path, "sleep", "120"]).pid


def mislead():
{mislead}


def look():
    connected = established()  # before its entries, which are then at least as many
    rows = text("/proc/net/nf_conntrack").splitlines()
    own = sum(LOAD.search(row) is not None for row in rows)
    return {{
        "entries": own, "others": len(rows) - own, "established": connected, "waiting": sockets("02"),
        "count": count(), "drop": stat("drop"), "insert_failed": stat("insert_failed"),
        "early_drop": stat("early_drop"), "overflows": overflows(),
        "probe": int(sh(PROBE).strip() or 0) if PROBE else 0,
    }}


def main():
    try:
        with open("/proc/sys/kernel/printk_devkmsg", "w") as file:
            file.write("on")
    except OSError:
        pass  # the command line has decided it
    if os.fork() == 0:
        until(listening, 60)
        mislead()
        os._exit(0)
    open("/truth.ready", "w").close()
    until(listening, 60)
    seen, end = None, time.time() + 60
    while time.time() < end:
        now = look()
        if now != seen:
            with open("/dev/kmsg", "w") as log:
                log.write("WITNESS " + json.dumps(now, separators=(",", ":")) + "\\n")
        seen = now
        time.sleep(.05)
    os._exit(0)


SOCKETS = {sockets}
main()
'''

_LOOPBACK = {
    "server": "(?:0100007F|00000000)",
    "load": r"^\S+ +2 \w+ +\d+ (\d+ )?([A-Z_]+ )?src=127\.77\.",
    "client": "[0-9A-F]{4}4D7F",
    "sockets": '{"server": "/proc/net/tcp", "client": "/proc/net/tcp", "netstat": "/proc/net/netstat",'
    ' "udp": "/proc/net/udp"}',
}
_NETNS = {
    "server": "027100CB",
    "load": r"^\S+ +2 \w+ +\d+ (\d+ )?([A-Z_]+ )?src=198\.51\.100\.2 ",
    "client": "026433C6",
    "sockets": '(lambda s, c: {"server": s + "tcp", "client": c + "tcp", "netstat": s + "netstat", "udp": s + "udp"})'
    '(in_namespace("lab-server"), in_namespace("lab-client"))',
}


def script(mislead: str, probe: str, topology: str) -> str:
    """The script's text: `mislead` is Python that begins once the load listens, `probe` a shell command or empty."""
    where = _NETNS if topology == "netns" else _LOOPBACK
    body = textwrap.indent(textwrap.dedent(mislead).strip() or "pass", "    ")
    return _HEAD.format(mislead=body, probe=probe, **where)
