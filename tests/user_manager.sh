#!/bin/sh
# A systemd user manager of its own for an unprivileged user, on a machine where none runs: to be
# called by root as `unshare --mount --pid --net --fork --mount-proc tests/user_manager.sh CGROUP
# BLOCKED -- COMMAND...`. CGROUP is a name for control groups to make; BLOCKED are directories, one a
# line, that the user may not enter, but has to. Nothing of the machine is changed but for CGROUP.
# Exit status 77: the manager did not come up, and why is on stderr.
set -eu
cgroup=$1 blocked=$2
shift 3
user=65534

mount --make-rprivate /
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /srv
mkdir -p /run/systemd/system /run/systemd/unit-root /run/user/$user /srv/home /srv/overlays
chown $user /run/user/$user /srv/home
printf '%s\n' "$blocked" | while read -r directory; do
    [ -n "$directory" ] || continue
    layer=$(mktemp -d -p /srv/overlays)
    mkdir "$layer/upper" "$layer/work"
    mount -t overlay overlay \
        -o "lowerdir=$directory,upperdir=$layer/upper,workdir=$layer/work" "$directory"
    chmod 755 "$directory"
done
for root in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e $root/cgroup.procs ] || continue
    mkdir -p "$root/$cgroup"
    echo $$ >"$root/$cgroup/cgroup.procs"
    chown -R $user "$root/$cgroup"
done

exec setpriv --reuid=$user --regid=$user --clear-groups env -i HOME=/srv/home USER=nobody \
    PATH=/usr/bin:/bin LANG=C.UTF-8 XDG_RUNTIME_DIR=/run/user/$user \
    DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$user/bus sh -c '
        dbus-daemon --session --address="$DBUS_SESSION_BUS_ADDRESS" --nofork --nopidfile &
        /lib/systemd/systemd --user --log-target=console >/srv/home/manager.log 2>&1 &
        for _ in $(seq 100); do
            systemctl --user show --property=Version >/dev/null 2>&1 && exec "$@"
            sleep 0.1
        done
        cat /srv/home/manager.log >&2
        exit 77
    ' sh "$@"
