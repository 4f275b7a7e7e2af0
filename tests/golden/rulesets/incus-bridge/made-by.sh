# hand-written in the style of: Incus or LXD 5 with a managed bridge
nft -f - <<'N'
table inet incus {
	chain pstrt.incusbr0 {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.5.5.0/24 ip daddr != 10.5.5.0/24 masquerade
		ip6 saddr fd42:1::/64 ip6 daddr != fd42:1::/64 masquerade
	}
	chain fwd.incusbr0 {
		type filter hook forward priority filter; policy accept;
		ip version 4 oifname "incusbr0" accept
		ip version 4 iifname "incusbr0" accept
	}
	chain in.incusbr0 {
		type filter hook input priority filter; policy accept;
		iifname "incusbr0" udp dport 67 accept
	}
}
N
