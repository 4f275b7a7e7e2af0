# firewalld 1.3.3 of Debian 12 with FirewallBackend=iptables, a private D-Bus, and the masquerading zone "external" on eth0
mount -t tmpfs none /run; mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
mkdir -p /tmp/p/etc/firewalld; cp -a /etc/firewalld/. /tmp/p/etc/firewalld/; mount --bind /tmp/p/etc/firewalld /etc/firewalld
sed -i "s/^FirewallBackend=.*/FirewallBackend=iptables/" /etc/firewalld/firewalld.conf
firewalld --nofork --nopid >/dev/null 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1; firewall-cmd --state 2>/dev/null | grep -q running && break; done
firewall-cmd --zone=external --change-interface=eth0
