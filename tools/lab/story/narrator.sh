# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# How the story is told: steps, commands with their output, what it proves. A
# step that does not do what it says ends the story.

step=0 title=

# begin_step TITLE
begin_step() {
	step=$((step + 1))
	title=$1
	printf '\n%d. %s\n\n' "$step" "$title"
}

# tell TEXT...: a paragraph.
tell() {
	printf '%s\n' "$*" | fold -s -w 76 | sed 's/ *$//; s/^/   /'
}

# proved TEXT...: what a step has shown.
proved() {
	printf '\n'
	printf '%s\n' "$*" | fold -s -w 73 | sed 's/ *$//; 1s/^/   => /; 2,$s/^/      /'
}

quote() {
	sed 's/^/       /' | cut -c1-110
}

# fail_story REASON
fail_story() {
	printf '\nFAILED in step %d (%s): %s\n' "$step" "$title" "$1"
	if [ -s "${work:-}/console" ]; then
		printf 'The last lines of the guest:\n'
		tail -n 5 "$work/console" | quote
	fi
	exit 1
}

# typed WORD...: a command as one would type it.
typed() {
	local word line=''
	for word; do
		[[ $word != *' '* ]] || word="'$word'"
		line+=" $word"
	done
	printf '     $%s\n' "$line"
}

# show COMMAND...: run it as a user would, and show that. Its output is in $out.
out=
show() {
	local rc=0
	typed "$@"
	out=$("$@" 2>&1) || rc=$?
	if [ "$rc" = 0 ]; then
		printf '%s\n' "$out" | ${shorten:-cat} | quote
	else
		printf '%s\n' "$out" | quote
	fi
	return "$rc"
}

# waited SECONDS COMMAND...: until COMMAND succeeds.
waited() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}
