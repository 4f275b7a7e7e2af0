iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE
iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT
