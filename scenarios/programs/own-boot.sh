# What the own boot of a distribution would load, set and start that netfilter knows of, done without its init: modules
# (modules-load.d(5)), sysctls (sysctl.d(5)), and the firewall services that are enabled, where one is a program that runs
# once. Prints a line for each thing; "unknown" is what only a service that stays would have done.

FIREWALLS='nftables|iptables|ip6tables|netfilter-persistent|ufw|firewalld|shorewall6?|ferm|fail2ban|docker|libvirtd|podman'

# the files of a kind by their names; a file of the same name in a folder that comes first is taken in place of others
files() {
    for folder in /etc /run /usr/lib /lib; do
        for file in "$folder/$1"/*.conf; do
            [ -e "$file" ] && echo "${file##*/} $file"
        done
    done | sort -s -u -k1,1 | cut -d' ' -f2-
}

lines() {
    cat "$@" 2> /dev/null | sed 's/^[[:space:]]*//' | grep -v '^[#;]' | grep .
}

load_modules() {
    lines $(files modules-load.d) /etc/modules | while read -r module; do
        if said=$(modprobe $module 2>&1); then echo "module $module: loaded"; else echo "module $module: not loaded: $said"; fi
    done
}

set_sysctls() {
    lines $(files sysctl.d) /etc/sysctl.conf | grep = | while IFS='=' read -r name value; do
        name=$(echo "$name" | sed 's/^-//; s/[[:space:]]*$//; s|\.|/|g')
        value=$(echo "$value" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
        for path in /proc/sys/$name; do
            if echo "$value" 2> /dev/null > "$path"; then echo "sysctl $path = $value"; else echo "sysctl $path: not set"; fi
        done
    done 2> /dev/null
}

unit_file() {
    for folder in /etc /run /usr/lib /lib; do
        [ -s "$folder/systemd/system/$1" ] && echo "$folder/systemd/system/$1" && return
    done
}

start_service() {
    unit=$(unit_file "$1")
    [ -n "$unit" ] || { echo "service $1: unknown: it has no unit"; return; }
    commands=$(sed -n 's/^ExecStart=[-@:+!]*//p' "$unit")
    if ! grep -q '^Type=oneshot' "$unit"; then
        echo "service $1: unknown: it is a service that stays, and needs its init"
    elif echo "$commands" | grep -q '[$%]'; then
        echo "service $1: unknown: its command needs its init: $commands"
    else
        echo "$commands" | grep . | while read -r command; do
            sh -c "$command" 2>&1
            echo "service $1: ran $command: status $?"
        done
    fi
}

start_services() {
    for link in /etc/systemd/system/*.wants/*.service /etc/systemd/system/*.requires/*.service; do
        [ -L "$link" ] && echo "${link##*/}"
    done | sort -u | grep -E "^($FIREWALLS)\.service$" | while read -r service; do
        start_service "$service"
    done
    for link in /etc/runlevels/*/*; do
        [ -e "$link" ] && echo "${link##*/}"
    done | sort -u | grep -E "^($FIREWALLS)$" | while read -r service; do
        echo "service $service: unknown: OpenRC starts it"
    done
}

load_modules
set_sysctls
start_services
exit 0
