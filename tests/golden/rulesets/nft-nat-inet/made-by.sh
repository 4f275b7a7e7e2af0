nft -f - <<'N'
table inet both {
	chain pre {
		type nat hook prerouting priority dstnat;
		tcp dport 81 redirect to :8081
		tcp dport 82 dnat ip6 to [fd00::2]:8080
	}
	chain post {
		type nat hook postrouting priority srcnat;
		oifname "eth0" masquerade random
		ip saddr 10.0.0.0/24 snat ip to 198.51.100.7
		ct status dnat masquerade
		snat ip to ip saddr map { 10.1.0.1 : 198.51.100.8, 10.1.0.2 : 198.51.100.9 }
	}
}
N
