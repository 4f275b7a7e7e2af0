nft -f - <<'N'
table ip shield {
	synproxy named { mss 1460; wscale 7; timestamp sack-perm; }
	chain incoming {
		type filter hook input priority filter; policy accept;
		tcp dport 80 synproxy mss 1460 wscale 7 timestamp sack-perm
	}
}
table ip6 shield6 {
	synproxy named { mss 1400; wscale 7; }
}
N
