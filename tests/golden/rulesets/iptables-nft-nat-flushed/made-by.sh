iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE
iptables-nft -t nat -F; iptables-nft -F
