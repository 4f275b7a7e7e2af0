# words of conntrack and NAT that are names, values and comments
nft -f - <<'N'
table inet to-redirect {
	set my-dnat { type inet_service; elements = { 22, 80 }; }
	set icmps { type icmp_type; elements = { redirect, echo-request }; }
	chain ct-state { counter comment "ct state new masquerade"; }
	chain x.snat { counter; }
	chain masquerade_me {
		type filter hook input priority 0;
		icmp type redirect accept
		icmp type != redirect counter
		icmp type { redirect, echo-request } accept
		icmp type @icmps accept
		icmpv6 type nd-redirect accept
		tcp dport @my-dnat jump ct-state
		udp dport @my-dnat goto x.snat
		iifname "ct" log prefix "ct state dnat to "
		meta mark set 0x1
		fib daddr type local accept
	}
}
N
