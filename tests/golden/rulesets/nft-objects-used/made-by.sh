nft -f - <<'N'
table ip f {
	ct helper ftp-standard { type "ftp" protocol tcp; }
	ct timeout quick { protocol tcp; policy = { established : 60 }; }
	chain pre {
		type filter hook prerouting priority 0;
		tcp dport 21 ct helper set "ftp-standard"
		tcp dport 80 ct timeout set "quick"
	}
}
N
