# ufw 0.36.2 of Debian 12, backend iptables-nft (the default alternative), in private copies of its folders
mount -t tmpfs none /run
for d in /etc/ufw /etc/default /lib/ufw /var/lib/ufw; do [ -d $d ] && { mkdir -p /tmp/p$d; cp -a $d/. /tmp/p$d/; mount --bind /tmp/p$d $d; }; done
ufw allow 22/tcp
ufw limit 2222/tcp
ufw --force enable
