nft -f - <<'N'
table ip limits {
	set counted { type ipv4_addr; flags dynamic; ct count over 20; }
	chain in {
		type filter hook input priority 0;
		ip saddr @counted drop
	}
}
N
