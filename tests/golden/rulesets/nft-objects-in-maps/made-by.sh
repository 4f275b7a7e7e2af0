nft -f - <<'N'
table ip shield {
	synproxy strict { mss 1460; wscale 7; timestamp sack-perm; }
	synproxy plain { mss 1400; wscale 7; }
	map by_port { type inet_service : synproxy; elements = { 80 : "strict", 443 : "plain" }; }
	set sources { type ipv4_addr; flags dynamic; ct count over 20; }
	set targets { type ipv4_addr; flags dynamic; ct count over 20; }
	chain input {
		type filter hook input priority 0;
		ip saddr @sources ip daddr @targets drop
		tcp dport { 80, 443 } synproxy name tcp dport map @by_port
	}
}
N
