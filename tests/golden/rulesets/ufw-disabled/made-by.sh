# what `ufw disable` leaves behind
mount -t tmpfs none /run
for d in /etc/ufw /etc/default /lib/ufw /var/lib/ufw; do [ -d $d ] && { mkdir -p /tmp/p$d; cp -a $d/. /tmp/p$d/; mount --bind /tmp/p$d $d; }; done
ufw --force enable
ufw disable
