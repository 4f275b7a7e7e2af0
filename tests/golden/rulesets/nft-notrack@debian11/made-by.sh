nft -f - <<'N'
table inet raw {
	chain pre { type filter hook prerouting priority raw; notrack; }
	chain outgoing { type filter hook output priority raw; oif lo notrack; }
}
N
