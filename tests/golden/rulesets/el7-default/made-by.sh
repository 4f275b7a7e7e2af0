# hand-written in the style of: the iptables service of RHEL 6 and 7, both families
for f in iptables:icmp:icmp-host-prohibited ip6tables:ipv6-icmp:icmp6-adm-prohibited; do set -- $(echo $f | tr : ' '); $1-legacy-restore <<R
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p $2 -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
-A INPUT -j REJECT --reject-with $3
-A FORWARD -j REJECT --reject-with $3
COMMIT
R
done
