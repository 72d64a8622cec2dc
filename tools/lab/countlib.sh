# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What bench and bench-profile share: a boot in which only the instructions count.

# count_boot PLATFORM KERNEL DIR SECONDS [EMULATOR ARGUMENT...]: one processor, whose
# clock they are. The kernel, which boot takes from KERNEL, sees the same each time.
count_boot() {
	local platform=$1 kernel=$2 dir=$3 limit=$4 arguments=("${@:5}")
	# The serial ports are slow in such a second, and may have something yet.
	say 'poweroff() { sleep 3; command poweroff "$@"; }' >>"$dir/lab/job"
	case $platform in
	qemu-*)
		export LAB_ACCEL=tcg,thread=single
		arguments+=(-icount 'shift=0,sleep=off' -rtc 'base=2026-01-01,clock=vm' -seed 1) ;;
	bochs-*)
		# As many as in QEMU's second, so that timers come as seldom as there.
		export LAB_IPS=1000000000 LAB_TIME=1767225600 ;;
	esac
	KERNEL_DIR=$kernel LAB_SMP=1 LAB_CMDLINE='nokaslr norandmaps' "$LAB/boot" "$platform" "$dir" "$limit" "${arguments[@]}"
}
