# hand-written in the style of: OpenWrt fw4 with flow offloading
nft -f - <<'N'
table inet fw4 {
	flowtable ft {
		hook ingress priority filter
		devices = { lo }
		counter
	}
	ct helper amanda {
		type "amanda" protocol udp
		l3proto inet
	}
	chain input {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept comment "!fw4: Accept traffic from loopback"
		ct state vmap { established : accept, related : accept } comment "!fw4: Handle inbound flows"
		tcp flags & (fin | syn | rst | ack) == syn jump syn_flood comment "!fw4: Rate limit TCP syn packets"
		iifname "br-lan" jump input_lan comment "!fw4: Handle lan IPv4/IPv6 input traffic"
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		meta l4proto { tcp, udp } flow add @ft
		ct state vmap { established : accept, related : accept } comment "!fw4: Handle forwarded flows"
	}
	chain output { type filter hook output priority filter; policy accept; }
	chain syn_flood { limit rate 25/second burst 50 packets return; drop; }
	chain input_lan { jump accept_from_lan; }
	chain accept_from_lan { iifname "br-lan" counter accept; }
	chain helper_lan { udp dport 10080 ct helper set "amanda"; }
	chain dstnat { type nat hook prerouting priority dstnat; policy accept; }
	chain srcnat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "wan" jump srcnat_wan comment "!fw4: Handle wan IPv4/IPv6 srcnat traffic"
	}
	chain srcnat_wan { meta nfproto ipv4 masquerade comment "!fw4: Masquerade IPv4 wan traffic"; }
	chain raw_prerouting { type filter hook prerouting priority raw; policy accept; }
}
N
