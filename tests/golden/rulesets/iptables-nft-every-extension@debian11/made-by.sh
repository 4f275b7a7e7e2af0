iptables-nft -N UNUSED
iptables-nft -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
iptables-nft -A INPUT -m conntrack ! --ctstate INVALID -j ACCEPT
iptables-nft -A INPUT -p tcp -m connmark --mark 0x1/0xff -j ACCEPT
iptables-nft -A INPUT -m connbytes --connbytes 1000: --connbytes-dir both --connbytes-mode bytes -j DROP
iptables-nft -A INPUT -p tcp --syn --dport 22 -m connlimit --connlimit-above 3 -j REJECT
iptables-nft -A INPUT -m helper --helper ftp -j ACCEPT
iptables-nft -A INPUT -m connlabel --label 7 -j ACCEPT
iptables-nft -A UNUSED -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 0xdeadbeef -j ACCEPT
iptables-nft -A INPUT -p icmp --icmp-type redirect -m comment --comment '-m state "quoted" -j SNAT' -j ACCEPT
iptables-nft -A INPUT -m comment --comment '-m' -j LOG --log-prefix '-j'
iptables-nft -A INPUT -m mark --mark 0x1 -m limit --limit 5/min -j ACCEPT
iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080
iptables-nft -t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 8081
iptables-nft -t nat -A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.0.0.0/24
iptables-nft -t nat -A PREROUTING -i br0 -j ACCEPT
iptables-nft -t nat -A POSTROUTING -s 10.0.0.0/24 -j SNAT --to-source 198.51.100.7
iptables-nft -t nat -A POSTROUTING -s 10.1.0.0/24 -j MASQUERADE
iptables-nft -t mangle -A PREROUTING -j CONNMARK --restore-mark
iptables-nft -t mangle -A PREROUTING -j MARK --set-mark 0x1
iptables-nft -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 3128 --on-ip 127.0.0.1 --tproxy-mark 1
iptables-nft -t mangle -A PREROUTING -p tcp -m socket --transparent -j ACCEPT
iptables-nft -t filter -A INPUT -p tcp --dport 80 -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
iptables-nft -t raw -A PREROUTING -j CT --zone 3
iptables-nft -t raw -A PREROUTING -i lo -j NOTRACK
