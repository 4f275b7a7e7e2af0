iptables-legacy -N LEFTOVER
iptables-legacy -N DEEPER
iptables-legacy -A LEFTOVER -j DEEPER
iptables-legacy -A DEEPER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-legacy -A INPUT -i lo -j ACCEPT
