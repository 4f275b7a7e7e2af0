# hand-written in the style of: fail2ban with its iptables-multiport and nftables actions: no conntrack anywhere
iptables-legacy -N f2b-sshd
iptables-legacy -A f2b-sshd -s 203.0.113.9 -j REJECT
iptables-legacy -A f2b-sshd -j RETURN
iptables-legacy -I INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
nft -f - <<'N'
table inet f2b-table {
	set addr-set-nginx { type ipv4_addr; elements = { 203.0.113.10, 203.0.113.11 }; }
	chain f2b-chain {
		type filter hook input priority filter - 1; policy accept;
		tcp dport { 80, 443 } ip saddr @addr-set-nginx reject with icmp port-unreachable
	}
}
N
