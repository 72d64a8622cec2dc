#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# story.sh: what make run shows, inside the lab: BUILD is this repository's build
# directory. Starts a Linux guest under Debian's QEMU, and ends it properly.

set -euo pipefail

work=$(mktemp -d)
mkfifo "$work/tty.in" "$work/tty.out"
trap 'kill "${vmm:-}" 2>/dev/null || true' EXIT

echo "Starting a Linux guest under $(qemu-system-x86_64 --version | head -n 1)"
qemu-system-x86_64 -accel kvm -cpu qemu64 -machine q35 -smp 2 -m 256M -nodefaults -display none \
	-kernel "$BUILD/kernel/arch/x86/boot/bzImage" -initrd "$BUILD/guest.gz" \
	-append "console=ttyS0 loglevel=4" -serial "file:$work/console" -serial "pipe:$work/tty" -no-reboot &
vmm=$!

# The guest's second serial port takes commands and answers.
exec 4<"$work/tty.out" 5>"$work/tty.in"
read -r -t 120 line <&4 || { tail -n 5 "$work/console"; echo "the guest did not boot"; exit 1; }
echo "The guest says \"$line\" after $SECONDS seconds"

echo nproc >&5
read -r -t 20 line <&4
echo "It has ${line%$'\r'} processors"
echo "poweroff -f" >&5
wait "$vmm"
echo "It has powered off"
