# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The story's guest, and what it says: its console in $work/console, a line to
# its shell, and QEMU's monitor.
# shellcheck disable=SC2034,SC2154

# start_guest: the VMM's process is $vmm.
start_guest() {
	# It is paused, in an emulated machine, on a host that may be busy: not
	# what its watchdogs should complain about.
	local patient="rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60"
	local line options=(-accel kvm -name demo -cpu qemu64 -smp 2 -m 96M)
	mkfifo "$work"/{tty,monitor}.{in,out}
	printf '     $ qemu-system-x86_64 %s -kernel bzImage ...\n' "${options[*]}"
	qemu-system-x86_64 "${options[@]}" -nodefaults -display none -no-reboot \
		-kernel "$BUILD/kernel/arch/x86/boot/bzImage" -initrd "$BUILD/guest.gz" \
		-append "console=ttyS0 loglevel=4 panic=-1 $patient" -serial "file:$work/console" -serial "pipe:$work/tty" \
		-chardev "pipe,id=monitor,path=$work/monitor" -mon chardev=monitor >"$work/vmm" 2>&1 &
	vmm=$!
	exec 4<"$work/tty.out" 5>"$work/tty.in" 6<"$work/monitor.out" 7>"$work/monitor.in"
	read -r -t 180 line <&4 || true
	[ "${line:-}" = ready ] || fail_story "the guest did not boot: $(tail -n 3 "$work/vmm")"
}

tell_guest() {
	printf '%s\n' "$1" >&5
}

# answer SECONDS: what the guest says to the last command, in $out; fails if it
# says nothing for that long.
answer() {
	local line
	out=
	while read -r -t "$1" line <&4; do
		line=${line%$'\r'}
		case $line in
		'=> 0') return 0 ;;
		'=> '*) out+=$line; return 0 ;;
		esac
		out+=$line$'\n'
	done
	return 1
}

# ask COMMAND: run it in the guest, its output is in $out.
ask() {
	tell_guest "$1"
	answer 60 || fail_story "the guest does not answer to \"$1\""
	out=${out%$'\n'}
}

# show_guest COMMAND: the same, for all to see.
show_guest() {
	printf '     guest# %s\n' "$1"
	ask "$1"
	[ -z "$out" ] || printf '%s\n' "$out" | quote
}

# counted CPU: how far the guest's processor has counted.
counted() {
	sed -n "s/^cpu $1 counts \\([0-9]*\\).*/\\1/p" "$work/console" | tail -n 1
}

# counts_on CPU FROM: has it counted further?
counts_on() {
	[ "$(counted "$1")" -gt "$2" ]
}

# stands_still CPU: it has not counted for a second.
stands_still() {
	local before
	before=$(counted "$1")
	sleep 1
	[ "$(counted "$1")" = "$before" ]
}

# no_gap: every processor has counted without leaving out anything.
no_gap() {
	# The last line may be half of one.
	sed '$d' "$work/console" |
		awk '$1 == "cpu" && $3 == "counts" { n = $4 + 0; if (n != last[$2] + 1) bad = 1; last[$2] = n } END { exit bad }'
}

# monitor COMMAND: what QEMU says, in $out. The next command's answer ends it.
monitor() {
	local line
	out=
	printf '%s\ninfo name\n' "$1" >&7
	while read -r -t 60 line <&6; do
		line=${line%$'\r'}
		[ "$line" != demo ] || return 0
		out+=$line$'\n'
	done
	fail_story "QEMU does not answer to \"$1\""
}
