# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What check and check-debug share: steps that count as tests, tests in the lab,
# the report. The names of records and logs begin with RUN_PREFIX.

# The functions here are called by step().
# shellcheck disable=SC2317

. "$(dirname "${BASH_SOURCE[0]}")/treelib.sh"

export RUN_PREFIX=${RUN_PREFIX:-}
records=$LOG/${RUN_PREFIX}check.tsv
: >"$records"

# test_step NAME TITLE COMMAND...: a step that counts as a test.
test_step() {
	local name=$1 title=$2 log=$LOG/${RUN_PREFIX}check-$1.log result=pass
	shift 2
	step "$title" "$log" "$@" || {
		result=fail
		telling "$log"
		say "  log: $log"
	}
	printf 'build\t%s\t\t%s\t%s\t%s\n' "$name" "$result" \
		"$([ "$result" = pass ] || telling "$log" | tr '\t\n' ' /' | cut -c1-600)" "$log" >>"$records"
	[ "$result" = pass ]
}

# build_step NAME COMMAND...: one that says itself what it does.
build_step() {
	local name=$1 result=pass
	shift
	"$@" || result=fail
	printf 'build\t%s\t\t%s\t%s\t%s\n' "$name" "$result" "see above" "$LOG/$name.log" >>"$records"
	[ "$result" = pass ]
}

# must_build NAME COMMAND...: one without which there is nothing to test.
must_build() {
	build_step "$@" || finish
}

# report [OPTION...]: what came of it, with the totals; fails if something did.
report() {
	awk "$@" -f "$LAB/report" "$LAB/known-failures.txt" "$records" >"$LOG/${RUN_PREFIX}report.txt"
}

# run_platform PLATFORM: its records count, whatever the status.
run_platform() {
	"$LAB/platform" "$1" || true
}

declare -A running

start_platform() {
	own_group run_platform "$1" >"$LOG/$RUN_PREFIX$1.log" 2>&1 </dev/null
	running[$1]=$child
}

# ended ID: a step cannot wait for what is not its own child.
ended() {
	while kill -0 "$1" 2>/dev/null; do sleep 0.5; done
}

# What a step that runs tests shows next to its spinner.
tests_done() {
	printf '%s tests' "$(wc -l <"$LOG/$RUN_PREFIX$platform.tsv")"
}

await_platform() {
	platform=$1 step_counter=tests_done
	step "tests on $1" "$LOG/check-await.log" ended "${running[$1]}" || true
	step_counter=true
	reap "${running[$1]}" || true
	cat "$LOG/$RUN_PREFIX$1.tsv" >>"$records"
}

# test_platform PLATFORM: now, and not beside others.
test_platform() {
	platform=$1 step_counter=tests_done
	step "tests on $1" "$LOG/$RUN_PREFIX$1.log" run_platform "$1" || true
	step_counter=true
	cat "$LOG/$RUN_PREFIX$1.tsv" >>"$records"
}
