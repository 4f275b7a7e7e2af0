nft -f - <<'N'
table inet idle {
	flowtable only { hook ingress priority filter; devices = { lo }; }
}
N
