nft -f - <<'N'
table inet dispatch {
	map services {
		type inet_service : verdict
		elements = { 22 : jump ssh, 80 : goto web,
			443 : goto web, 8080 : drop }
	}
	map unused {
		type inet_service : verdict
		elements = { 25 : jump mail }
	}
	chain ssh { ct state new accept; }
	chain web { ct count over 100 reject; }
	chain mail { ct state new accept; }
	chain dns { ct mark 7 accept; }
	chain loop-a { jump loop-b; }
	chain loop-b { ct direction original accept; }
	chain in {
		type filter hook input priority 0;
		tcp dport vmap @services
		udp dport vmap { 53 : jump dns, 54 : accept }
	}
}
N
