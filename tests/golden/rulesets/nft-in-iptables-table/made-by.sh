# a rule of nft in a table of iptables-nft: iptables-nft-save cannot show the table any more
iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
nft add rule ip filter INPUT ct status dnat counter accept
nft add chain ip filter anonymous '{ type filter hook input priority 10; }'
