iptables-legacy -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080
iptables-legacy -t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 8081
iptables-legacy -t nat -A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.0.0.0/24
iptables-legacy -t nat -A PREROUTING -i br0 -j ACCEPT
iptables-legacy -t nat -A POSTROUTING -s 10.0.0.0/24 -j SNAT --to-source 198.51.100.7
iptables-legacy -t nat -A POSTROUTING -s 10.1.0.0/24 -j MASQUERADE
iptables-legacy -t mangle -A PREROUTING -j CONNMARK --restore-mark
iptables-legacy -t mangle -A PREROUTING -j MARK --set-mark 0x1
iptables-legacy -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 3128 --on-ip 127.0.0.1 --tproxy-mark 1
iptables-legacy -t mangle -A PREROUTING -p tcp -m socket --transparent -j ACCEPT
iptables-legacy -t filter -A INPUT -p tcp --dport 80 -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
