#!/bin/busybox sh
# The guest's first and only process of its own: a shell on the serial console that says when each of
# its commands has ended.
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
chmod 1777 /tmp
# The console looks like a terminal to what runs here.
export PATH=/bin HOME=/tmp NO_COLOR=1 NODE_DISABLE_COLORS=1
cd /rig/programs
exec </dev/console >/dev/console 2>&1
# What the host sends is not sent back, and what is sent to the host stays as it is.
stty -echo -onlcr
# A word that no program prints, chosen by the host for this boot.
mark=$(sed -n 's/.*rig\.mark=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
echo "$mark 0"
while read -r line; do
  eval "$line"
  echo "$mark $?"
done
poweroff -f
