# hand-written in the style of: a TPROXY set-up that tracks nothing
iptables-legacy -t mangle -N DIVERT
iptables-legacy -t mangle -A PREROUTING -p tcp -m socket -j DIVERT
iptables-legacy -t mangle -A DIVERT -j MARK --set-mark 1
iptables-legacy -t mangle -A DIVERT -j ACCEPT
iptables-legacy -t mangle -A PREROUTING -p tcp --dport 80 -j TPROXY --tproxy-mark 0x1/0x1 --on-port 50080
