# added with legacy, everything flushed with nft
iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE
iptables-nft -t nat -A POSTROUTING -o eth1 -j MASQUERADE
iptables-nft -F; iptables-nft -t nat -F; nft flush ruleset
