iptables-legacy -t raw -A PREROUTING -i lo -j NOTRACK
iptables-legacy -t raw -A OUTPUT -o lo -j CT --notrack
