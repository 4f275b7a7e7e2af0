iptables-legacy -t raw -A PREROUTING -i eth0 -j CT --notrack
iptables-legacy -t raw -A PREROUTING -p tcp --dport 21 -j CT --zone 5
