nft -f - <<'N'
table inet help-objects {
	ct helper ftp-standard { type "ftp" protocol tcp; l3proto inet; }
}
table ip timeouts {
	ct timeout quick { protocol tcp; l3proto ip; policy = { established : 60, close : 5 }; }
	counter c { }
	quota q { over 10 mbytes }
}
table ip6 expected {
	ct expectation e { protocol tcp; dport 9876; timeout 2m; size 12; l3proto ip6; }
}
N
