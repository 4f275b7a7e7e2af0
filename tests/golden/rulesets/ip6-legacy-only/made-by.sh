ip6tables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
ip6tables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE
iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT
