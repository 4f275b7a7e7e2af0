iptables-legacy -A FORWARD -m state --state ESTABLISHED -j ACCEPT
iptables-nft -A FORWARD -m state --state ESTABLISHED -j ACCEPT
