ip link add br0 type bridge
nft -f - <<'N'
table ip6 six {
	chain out { type filter hook output priority 0; ct original ip6 daddr fd00::1 counter; }
}
table bridge b {
	chain pre { type filter hook prerouting priority 0; ct state established accept; }
}
N
