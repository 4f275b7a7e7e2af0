# hand-written in the style of: libvirt 10.4 and newer, the default network, its nftables backend
nft -f - <<'N'
table ip libvirt_network {
	chain forward {
		type filter hook forward priority filter; policy accept;
		counter jump guest_cross
		counter jump guest_input
		counter jump guest_output
	}
	chain guest_output {
		ip saddr 192.168.122.0/24 iif "lo" counter accept
		iif "lo" counter reject
	}
	chain guest_input {
		oif "lo" ip daddr 192.168.122.0/24 ct state established,related counter accept
		oif "lo" counter reject
	}
	chain guest_cross { iif "lo" oif "lo" counter accept; }
	chain guest_nat {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 counter return
		meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade to :1024-65535
		ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 counter masquerade
	}
}
table ip6 libvirt_network {
	chain forward {
		type filter hook forward priority filter; policy accept;
		counter jump guest_cross
	}
	chain guest_cross { }
}
N
