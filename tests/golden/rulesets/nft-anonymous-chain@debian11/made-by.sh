nft -f - <<'N'
table inet t {
	chain incoming {
		type filter hook input priority 0;
		tcp dport { 22, 23 } jump {
			ct state established accept
			ip saddr 10.0.0.0/8 drop
		}
		udp dport 53 accept
	}
}
N
