#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=dash
#
# host.sh [STATE...]: the host's part of the measurement of a Linux guest with a
# workload. Starts it under QEMU, puts it into each STATE (none, hooked, protected,
# cr3), and has it tell how long the workload takes then.

set -eu
root=/lab/root

fail() {
	echo "not ok # $*"
	exit 1
}

# wait_for PATTERN FILE COMMAND: for a line of a tool, at most a minute.
wait_for() {
	seconds=0
	while ! grep -q "$1" "$2"; do
		[ $seconds -lt 60 ] || fail "$3: $(cat "$2")"
		sleep 1
		seconds=$((seconds + 1))
	done
}

# with_tool PATTERN COMMAND [ARGUMENT...]: kvmi COMMAND works on the guest.
with_tool() {
	pattern=$1 command=$2
	shift 2
	/lab/kvmi "$command" "$vmm" "$@" >/dev/null 2>/tmp/tool &
	tool=$!
	wait_for "$pattern" /tmp/tool "kvmi $command"
}

# The guest says this line next, but for messages of its kernel. (It is the boot that has
# a limit of time.)
expect() {
	while read -r line <&4; do
		case $line in
		"$1"*) return ;;
		"not ok"*) fail "the guest: $line" ;;
		esac
		echo "# guest: $line"
	done
	fail "the guest has closed its console"
}

mount --bind /dev $root/dev
mount -t proc proc $root/proc
mkfifo $root/tty.in $root/tty.out
# It tells when it ends, or nobody would wake up.
{
	chroot $root /bin/qemu -L /share -accel kvm -cpu host -m 256M -nodefaults -display none -no-reboot \
		-kernel /bzImage -initrd /guest.gz -append "console=ttyS0 loglevel=4 panic=-1 nokaslr norandmaps" \
		-serial pipe:/tty -pidfile /tmp/pid 2>&1 | tail -n 3 >/tmp/vmm
	echo "not ok: QEMU has ended: $(cat /tmp/vmm)" >$root/tty.out
} &
exec 4<>$root/tty.out 5<>$root/tty.in
expect ready
vmm=$(cat $root/tmp/pid)

for state; do
	tool=
	case $state in
	none) ;;
	hooked) with_tool 'ends' trace unhook ;;
	protected) with_tool 'pages protected' protect ;;
	cr3) with_tool 'ends' trace cr3 ;;
	*) fail "no state $state" ;;
	esac
	name=workload_$state
	echo "${name%_none}" >&5
	expect '# bench'
	echo "$line"
	echo "ok $state"
	if [ "$tool" ]; then
		kill -INT $tool
		wait $tool || fail "kvmi: $(cat /tmp/tool)"
	fi
done
kill "$vmm"
wait
umount $root/dev $root/proc
