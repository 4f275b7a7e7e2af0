iptables-nft -N via-goto
iptables-nft -N via-jump
iptables-nft -N orphan
iptables-nft -A INPUT -g via-goto
iptables-nft -A via-goto -p tcp -j via-jump
iptables-nft -A via-jump -m conntrack --ctstate NEW -m comment --comment "jump orphan" -j ACCEPT
iptables-nft -A orphan -m state --state ESTABLISHED -j CONNMARK --save-mark
iptables-nft -t raw -A PREROUTING -j CT --notrack
ip6tables-nft -t nat -A POSTROUTING -s fd00::/64 -j SNAT --to-source fd01::1
