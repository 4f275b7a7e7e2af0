nft -f - <<'N'
table inet asleep {
	flags dormant
	chain in {
		type filter hook input priority 0;
		ct state established accept
	}
}
N
