#!/bin/sh
# Records what this host's connection tracking depends on, without changing anything; for hosts without Python.
# As root: sh record.sh OUT.tar.gz [--entries]. Then, where the lab is: lab inspect --from OUT.tar.gz
# It asks no program whose part of the kernel is not there, so that nothing is loaded.
set -u
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
most_bytes=33554432
most_namespaces=256

limited() { # with a deadline, where timeout(1) is there
    if command -v timeout > /dev/null; then timeout 20 "$@"; else "$@"; fi
}

take() { # NAME FILE: a file's text, or why there is none
    if [ ! -e "$2" ]; then
        echo ENOENT > "$here/$1.error"
    elif head -c "$most_bytes" "$2" > "$here/$1.part" 2> /dev/null; then
        mv "$here/$1.part" "$here/$1"
    else
        rm -f "$here/$1.part"
        echo EACCES > "$here/$1.error"
    fi
}

group() { # NAME FILE...: lines of "path: line"
    name=$1
    shift
    : > "$here/$name"
    for file in "$@"; do
        [ -r "$file" ] && [ -f "$file" ] && sed "s|^|$file: |" "$file" 2> /dev/null | head -c 65536 >> "$here/$name"
    done
}

present() { # whether a module is loaded or built in; where none can be loaded, all may be asked
    [ -e /proc/modules ] || return 0
    [ "$(cat /proc/sys/kernel/modules_disabled 2> /dev/null)" = 1 ] && return 0
    [ -d "/sys/module/$1" ] || grep -q "/$1\.ko" "/lib/modules/$(uname -r)/modules.builtin" 2> /dev/null
}

run() { # NAME PROGRAM...: what a program prints, or why there is nothing
    name=$1
    shift
    if ! command -v "$1" > /dev/null; then
        echo "$1: ENOENT" > "$here/$name.error"
    elif limited "$@" > "$here/$name.part" 2> "$here/$name.stderr" < /dev/null; then
        mv "$here/$name.part" "$here/$name"
    else
        echo "$1: exit status $?: $(head -c 300 "$here/$name.stderr" | tr '\n' ' ')" > "$here/$name.error"
    fi
    rm -f "$here/$name.part" "$here/$name.stderr"
}

needs() { # NAME MODULE PROGRAM...
    name=$1 module=$2
    shift 2
    if present "$module"; then run "$name" "$@"; else echo "$module is not loaded" > "$here/$name.error"; fi
}

legacy() { # NAME TABLES PROGRAM PLAIN: asked only where it has tables; PLAIN is the name where there is one backend
    if [ ! -e "/proc/net/$2" ]; then
        echo "is not loaded: there is no /proc/net/$2" > "$here/$1.error"
    elif [ -r "/proc/net/$2" ] && [ -z "$(cat "/proc/net/$2" 2> /dev/null)" ]; then
        echo "is not loaded: no table is there" > "$here/$1.error"
    elif command -v "$3" > /dev/null; then
        run "$1" "$3" -c -M /bin/false
    else
        case $(readlink -f "$(command -v "$4")") in
            '' | *nft*) echo "$3: ENOENT" > "$here/$1.error" ;;
            *) run "$1" "$4" -c -M /bin/false ;;
        esac
    fi
}

counters() {
    cut -d' ' -f1 /proc/uptime > "$here/at"
    take stat_nf_conntrack /proc/net/stat/nf_conntrack
    take snmp /proc/net/snmp
}

look() { # in the namespace
    counters
    take ip_tables_names /proc/net/ip_tables_names
    take ip6_tables_names /proc/net/ip6_tables_names
    take ip_vs /proc/net/ip_vs
    group sysctl /proc/sys/net/netfilter/nf_conntrack_*
    group bridge /proc/sys/net/bridge/bridge-nf-call-* /sys/class/net/*/bridge/nf_call_ip*tables
    legacy iptables-legacy-save ip_tables_names iptables-legacy-save iptables-save
    legacy ip6tables-legacy-save ip6_tables_names ip6tables-legacy-save ip6tables-save
    needs ruleset.nft nf_tables nft -a list ruleset
    [ -s "$here/ruleset.nft" ] && needs ruleset.json nf_tables nft -j -a list ruleset
    if present nfnetlink_hook; then needs hooks.nft nf_tables nft list hooks; else
        echo "nfnetlink_hook is not loaded" > "$here/hooks.nft.error"
    fi
    if present act_ct && [ "$(grep -c : /proc/net/dev)" -gt 500 ]; then
        echo "more than 500 devices" > "$here/tc.filters.error"
    elif present act_ct; then
        sed -n 's/^ *\([^ :]*\):.*/\1/p' /proc/net/dev | while read -r device; do
            for direction in ingress egress; do
                echo "dev $device $direction"
                tc filter show dev "$device" "$direction" 2> /dev/null
            done
        done > "$here/tc.filters"
    else
        echo "act_ct is not loaded" > "$here/tc.filters.error"
    fi
    present ip_set && run ipset ipset list -terse -output save
    needs ovs.datapaths openvswitch ovs-dpctl show
    needs ovs.flows openvswitch ovs-appctl dpctl/dump-flows
    if [ "$entries" = yes ]; then
        take entries /proc/net/nf_conntrack
        [ -f "$here/entries" ] && sed -e 's/src=[^ ]*/src=-/g' -e 's/dst=[^ ]*/dst=-/g' "$here/entries" > "$here/e" &&
            mv "$here/e" "$here/entries"
    fi
}

again() {
    counters
    group sysctl /proc/sys/net/netfilter/nf_conntrack_count
}

host() {
    uname -r > "$here/uname"
    readlink /proc/1/ns/net > "$here/pid_1_namespace" 2> /dev/null
    take modules /proc/modules
    take cmdline /proc/cmdline
    take uptime /proc/uptime
    id -u > "$here/user"
    for path in /sys/module/nf_* /sys/module/nft_* /sys/module/xt_* /sys/module/ip*table* /sys/module/ip*t_* \
        /sys/module/nfnetlink* /sys/module/x_tables /sys/module/ip_vs* /sys/module/openvswitch /sys/module/act_ct; do
        [ -d "$path" ] && echo "${path##*/}"
    done > "$here/sys_module"
    sed -n -e 's/-/_/g' -e 's|.*/\(.*\)\.ko.*|\1|p' "/lib/modules/$(uname -r)/modules.builtin" 2> /dev/null |
        grep -E '^(nf|xt_|ip6?t|ip_|ip6_|x_tables|openvswitch|act_ct|nfnetlink)' > "$here/modules.builtin"
    group modprobe.d /etc/modprobe.d/* /run/modprobe.d/* /lib/modprobe.d/*
    group parameters /sys/module/nf_conntrack/parameters/*
    group bridge_ports /sys/class/net/*/brport/port_no
    grep -E '^(# name|slabinfo|nf_conntrack)' /proc/slabinfo > "$here/slabinfo" 2> /dev/null || rm -f "$here/slabinfo"
    if dmesg > "$here/log" 2> /dev/null; then
        grep -E 'conntrack|callbacks suppressed|messages suppressed' "$here/log" | tail -n 2000 > "$here/kmsg"
    else
        echo "dmesg: cannot be read" > "$here/kmsg.error"
    fi
    rm -f "$here/log"
    readlink -f "$(command -v iptables)" > "$here/iptables.program" 2> /dev/null
}

inside() { # PATH WHAT FOLDER: this script once more, in a namespace
    if [ "$(readlink "$1" 2> /dev/null)" = "$own" ]; then
        sh "$script" "--$2" "$3" "$entries"
    else
        nsenter --net="$1" sh "$script" "--$2" "$3" "$entries"
    fi
}

# lines "INODE PATH NAME", the own namespace first, each as often as it has processes
known_namespaces() {
    echo "$own /proc/self/ns/net"
    for path in /proc/[0-9]*/ns/net; do
        inode=$(readlink "$path" 2> /dev/null) && echo "$inode $path"
    done
    for path in /run/netns/* /run/docker/netns/*; do
        [ -e "$path" ] && echo "net:[$(stat -L -c %i "$path")] $path ${path##*/}"
    done
}

record() {
    work=$(mktemp -d) || exit 2
    trap 'rm -rf "$work"' EXIT
    root=$work/conntrack-record
    mkdir -p "$root/host" "$root/ns"
    echo 1 > "$root/version"
    here=$root/host
    host
    own=$(readlink /proc/self/ns/net)
    known_namespaces > "$work/known"
    cut -d' ' -f1 "$work/known" | awk '!seen[$0]++' | head -n "$most_namespaces" > "$work/inodes"
    while read -r inode; do
        number=${inode#net:[}
        folder=$root/ns/${number%]}
        mkdir -p "$folder/later"
        grep -F "$inode " "$work/known" > "$work/of"
        cut -s -d' ' -f3 "$work/of" | grep . > "$folder/names"
        sed -n 's|.* /proc/\([0-9]*\)/ns/net$|\1|p' "$work/of" > "$work/pids"
        wc -l < "$work/pids" | tr -d ' ' > "$folder/process_count"
        head -n 200 "$work/pids" | while read -r pid; do
            [ -n "$(head -c 1 "/proc/$pid/cmdline" 2> /dev/null | tr '\0' ' ')" ] &&
                echo "$pid $(cat "/proc/$pid/comm" 2> /dev/null)"
        done | head -n 5 > "$folder/processes"
        if [ "$inode" = "$own" ]; then echo 1; else echo 0; fi > "$folder/own"
        path=$(head -n 1 "$work/of" | cut -d' ' -f2)
        inside "$path" look "$folder" < /dev/null || echo "cannot be entered" > "$folder/error"
        echo "$folder $path" >> "$work/seen"
    done < "$work/inodes"
    sleep 1
    while read -r folder path; do
        [ -f "$folder/error" ] || inside "$path" again "$folder/later" < /dev/null
    done < "$work/seen"
    here=$root/host
    take modules_after /proc/modules
    (cd "$work" && tar cf - conntrack-record) | gzip > "$1" || exit 2
    echo "$1: $(find "$root" -type f | wc -l) texts" >&2
}

script=$0
entries=no
case ${1-} in
    --look | --again)
        here=$2 entries=$3
        "${1#--}"
        ;;
    '' | -*)
        echo "usage: sh record.sh OUT.tar.gz [--entries]" >&2
        exit 2
        ;;
    *)
        [ -e "$1" ] && echo "$1: is there already" >&2 && exit 2
        [ "${2-}" = --entries ] && entries=yes
        record "$1"
        ;;
esac
