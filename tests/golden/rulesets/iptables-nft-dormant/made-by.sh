iptables-nft -t nat -A POSTROUTING -o eth0 -j MASQUERADE
nft add table ip nat '{ flags dormant; }'
