nft -f - <<'N'
table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
		ct state vmap { established : accept, related : accept, invalid : drop }
		iif lo accept
		tcp dport { 22, 80, 443 } ct state new accept comment "web # handle 99 { and ssh"
		icmp type { echo-request, redirect } accept
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
	}
	chain output {
		type filter hook output priority 0; policy accept;
	}
}
N
