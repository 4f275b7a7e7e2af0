# shorewall 5.2.8 of Debian 12 with its own example of a masquerading router
mount -t tmpfs none /run
mkdir -p /tmp/p/etc/shorewall /tmp/p/var/lib/shorewall
cp -a /etc/shorewall/. /usr/share/doc/shorewall/examples/two-interfaces/. /tmp/p/etc/shorewall/
gunzip -f /tmp/p/etc/shorewall/*.gz 2>/dev/null
mount --bind /tmp/p/etc/shorewall /etc/shorewall
mount --bind /tmp/p/var/lib/shorewall /var/lib/shorewall
sed -i s/STARTUP_ENABLED=No/STARTUP_ENABLED=Yes/ /etc/shorewall/shorewall.conf; touch /var/lib/shorewall/firewall
ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up
ip addr add 198.51.100.7/24 dev eth0; ip addr add 10.0.0.1/24 dev eth1
shorewall start
