# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the lab's scripts share: places, named steps with their times, failures
# that say why. Sourced, never run.

set -euo pipefail

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Another state of this repository may be built by this lab, see bench.
TOP=${LAB_TOP:-$(cd "$LAB/../.." && pwd)}
BUILD=$(realpath -m "${BUILD:-$TOP/build}")
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/kvmi
LOG=$BUILD/log
LINUX_DIR=${LINUX_DIR:-$BUILD/linux}
JOBS=${JOBS:-$(nproc)}
export BUILD JOBS
export CCACHE_DIR=$CACHE/ccache
# ccache hashes the directory a file is compiled in; two trees must share hits.
export CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1
# The same source gives the same objects, whoever builds it.
export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=kvmi KBUILD_BUILD_HOST=lab
export LC_ALL=C.UTF-8

mkdir -p "$LOG" "$CCACHE_DIR"

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# fail REASON [LOG]: end the script; with a log, show its last telling lines.
fail() {
	printf '\nFAILED: %s\n' "$1" >&2
	if [ -n "${2:-}" ] && [ -s "$2" ]; then
		telling "$2" >&2
		printf '  log: %s\n' "$2" >&2
	fi
	exit 1
}

# telling LOG: the lines that say what went wrong, else the last ones.
telling() {
	local lines
	lines=$(grep -aE '(error|Error|ERROR|fatal|FAILED|undefined|No such|not ok|Assert|BUG|WARNING|panic)' "$1" |
		tail -n 12) || true
	[ -n "$lines" ] || lines=$(tail -n 12 "$1")
	printf '%s\n' "$lines" | cut -c1-200 | sed 's/^/  | /'
}

# own_group COMMAND...: start COMMAND in the background in a process group of
# its own, so that it can be ended with everything it started. Its id: $child.
child=
children=()
own_group() {
	set -m
	"$@" 9>&- &
	child=$!
	set +m
	children+=("$child")
}

# reap ID: wait for it; its status.
reap() {
	local id rc=0 left=()
	wait "$1" || rc=$?
	for id in "${children[@]}"; do
		[ "$id" = "$1" ] || left+=("$id")
	done
	children=("${left[@]}")
	return "$rc"
}

end_children() {
	local id
	for id in "${children[@]}"; do
		kill -TERM -- "-$id" 2>/dev/null || true
	done
	for id in "${children[@]}"; do
		wait "$id" 2>/dev/null || true
	done
	children=()
}

trap end_children EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

seconds() { printf '%d' "$((SECONDS - $1))"; }

# counter LOG: what a running step shows next to its spinner; steps with a
# better measure than the clock set step_counter to a function of their own.
step_counter=true

# step TITLE LOG COMMAND...: run COMMAND with its output in LOG, and say how
# long it took. Returns COMMAND's status, the caller decides what it means.
step() {
	local title=$1 log=$2 start=$SECONDS rc=0 spin='-\|/' i=0
	shift 2
	mkdir -p "$(dirname "$log")"
	own_group "$@" >"$log" 2>&1 </dev/null
	if [ -t 1 ]; then
		while kill -0 "$child" 2>/dev/null; do
			printf '\r%s %s  %ss %s\033[K' "${spin:i++%4:1}" "$title" \
				"$(seconds "$start")" "$("$step_counter" "$log" 2>/dev/null || true)"
			sleep 0.3
		done
		printf '\r\033[K'
	fi
	reap "$child" || rc=$?
	if [ "$rc" = 0 ]; then
		printf '%-58s ok   %4ss\n' "$title" "$(seconds "$start")"
	else
		printf '%-58s FAIL %4ss\n' "$title" "$(seconds "$start")"
	fi
	return "$rc"
}

# must_step: a step without which there is no point in going on.
must_step() {
	step "$@" || fail "$1" "$2"
}

# linux_make [ARG...]: make in the kernel tree, the way every build here does.
linux_make() {
	nice make -C "$LINUX_DIR" -j"$JOBS" CC='ccache gcc' HOSTCC='ccache gcc' "$@"
}

# exclusively NAME: hold a lock until this script ends, so that two of them do
# not build in the same directory.
exclusively() {
	exec 9>"$BUILD/.lock-$1"
	flock 9
}
