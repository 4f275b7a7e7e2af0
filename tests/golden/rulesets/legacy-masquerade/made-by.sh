iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE
