nft -f - <<'N'
table inet four {
	chain pre {
		type nat hook prerouting priority dstnat;
		tcp dport 80 dnat ip to 10.0.0.2:8080
	}
}
N
