iptables-legacy -N UNUSED
iptables-legacy -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
iptables-legacy -A INPUT -m conntrack ! --ctstate INVALID -j ACCEPT
iptables-legacy -A INPUT -p tcp -m connmark --mark 0x1/0xff -j ACCEPT
iptables-legacy -A INPUT -m connbytes --connbytes 1000: --connbytes-dir both --connbytes-mode bytes -j DROP
iptables-legacy -A INPUT -p tcp --syn --dport 22 -m connlimit --connlimit-above 3 -j REJECT
iptables-legacy -A INPUT -m helper --helper ftp -j ACCEPT
iptables-legacy -A INPUT -m connlabel --label 7 -j ACCEPT
iptables-legacy -A UNUSED -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 0xdeadbeef -j ACCEPT
iptables-legacy -A INPUT -p icmp --icmp-type redirect -m comment --comment '-m state "quoted" -j SNAT' -j ACCEPT
iptables-legacy -A INPUT -m comment --comment '-m' -j LOG --log-prefix '-j'
iptables-legacy -A INPUT -m mark --mark 0x1 -m limit --limit 5/min -j ACCEPT
