nft -f - <<'N'
table ip6 six {
	chain out { type filter hook output priority 0; ct state new counter; }
}
N
