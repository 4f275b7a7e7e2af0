nft -f - <<'N'
table ip nat {
	chain prerouting { type nat hook prerouting priority dstnat; }
	chain postrouting { type nat hook postrouting priority srcnat; }
}
N
