# a set whose type is of conntrack, and a map that a rule uses with ct: the set by itself holds nothing
nft -f - <<'N'
table ip t {
	set marks { typeof ct mark; elements = { 0x1, 0x2 }; }
	chain in { type filter hook input priority 0; tcp dport 1 accept; }
}
N
