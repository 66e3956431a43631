#!/bin/sh
# Run a command where what Linux has and a Mac lacks is missing: loopback has 127.0.0.1 and ::1
# alone, /proc has nothing but what /dev/fd points to, and a process gets 256 descriptors, as under
# launchd. `ps`, which needs no /proc on a Mac, still has the real one.
exec unshare --map-root-user --net --mount sh -c '
set -e
ip link set lo up
ip address delete 127.0.0.1/8 dev lo
ip address add 127.0.0.1/32 dev lo
mount -t tmpfs none /mnt
mkdir /mnt/proc /mnt/bin
cat >/mnt/bin/ps <<END
#!/bin/sh
exec unshare --mount sh -c "umount /proc && exec $(command -v ps) \"\\\$@\"" ps "\$@"
END
chmod +x /mnt/bin/ps
mount --rbind /proc /mnt/proc
mount -t tmpfs none /proc
mkdir /proc/self
ln -s /mnt/proc/self/fd /proc/self/fd
ulimit -S -n 256
PATH=/mnt/bin:$PATH exec "$@"' sh "$@"
