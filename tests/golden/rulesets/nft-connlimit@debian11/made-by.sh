nft -f - <<'N'
table ip conns {
	set counted { type ipv4_addr; flags dynamic; }
	set plain { type ipv4_addr; flags dynamic; }
	chain incoming {
		type filter hook input priority 0;
		tcp dport 22 ct count over 10 drop
		tcp dport 80 add @counted { ip saddr ct count over 20 } drop
		tcp dport 81 add @plain { ip saddr limit rate 5/second } accept
	}
}
N
