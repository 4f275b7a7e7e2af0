nft -f - <<'N'
table inet fast {
	flowtable ft { hook ingress priority filter; devices = { lo }; }
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip protocol { tcp, udp } flow add @ft
	}
}
table inet idle {
	flowtable only { hook ingress priority filter; devices = { lo }; }
}
N
