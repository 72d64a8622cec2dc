#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# story.sh: what make run shows, inside the lab. BUILD is this repository's build
# directory. A Linux guest runs under Debian's QEMU, and kvmi looks into it. What
# is told is checked; what is not so ends the story.

set -Eeuo pipefail

here=$(dirname "$0")/story
# shellcheck source=story/narrator.sh
. "$here/narrator.sh"
# shellcheck source=story/guest.sh
. "$here/guest.sh"

work=$(mktemp -d)
# Where every user can run it.
chmod 755 "$work"
cp "$BUILD/kvmi/kvmi" "$work/kvmi"
export PATH=$work:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
vmm='' tracer='' out='' step=0
trap 'fail_story "line $LINENO: $BASH_COMMAND"' ERR
# Nothing that was started here stays.
trap 'kill -9 $tracer $vmm 2>/dev/null || true; rm -rf "$work"' EXIT

# is_tcg: is this processor emulated by QEMU?
is_tcg() {
	[ "$(dd if=/dev/cpu/0/cpuid bs=16 count=1 iflag=skip_bytes skip=$((0x40000000)) 2>/dev/null |
		tail -c 12)" = TCGTCGTCGTCG ]
}

# start_trace COMMAND ARGUMENT...: kvmi COMMAND as $tracer, its output in
# $work/trace; returns when it works.
start_trace() {
	local command=$1
	shift
	printf '     $ kvmi %s %d%s &\n' "$command" "$vmm" "${*:+ $*}"
	rm -f "$work/trace" "$work/trace.err"
	kvmi "$command" "$vmm" "$@" >"$work/trace" 2>"$work/trace.err" &
	tracer=$!
	waited 60 grep -qs '\^C ends' "$work/trace.err" || fail_story "kvmi $command does not begin: $(cat "$work/trace.err")"
}

# end_trace: as ^C would.
end_trace() {
	local rc=0
	kill -INT "$tracer"
	wait "$tracer" || rc=$?
	tracer=''
	printf '     $ kill -INT %%1\n'
	sed -E 's/\<0{6,}//g; s/(^| )  +/\1 /g' "$work/trace" | quote
	[ "$rc" = 0 ] || fail_story "exit code $rc, $(cat "$work/trace.err")"
}

# look N: ask QEMU for the registers, into $work/regs.N; shows where the vCPUs are.
look() {
	monitor "info registers -a"
	grep -E '^(R[A-Z0-9]+ *=|CPU#)' <<<"$out" >"$work/regs.$1" || true
	[ "$(grep -c '^RIP' "$work/regs.$1")" = 2 ] || fail_story "QEMU does not say where the vCPUs are"
	grep -oE '^RIP=[0-9a-f]+' "$work/regs.$1" | paste -sd ' ' | quote
	sleep 1
}

printf 'KVM introspection: looking into a live virtual machine\n'
printf '======================================================\n\n'
tell "This is $(uname -sr) on an emulated processor, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)," \
	"with KVM introspection in its KVM (kvm.introspection=$(cat /sys/module/kvm/parameters/introspection))." \
	"kvmi is a command line tool that uses it. \$ is a shell of this host, guest# one inside the guest."

# ---------------------------------------------------------------------------
begin_step "A guest under a VMM that knows nothing of this"

start_guest
qemu-system-x86_64 --version | head -n 1 | quote
sums=/var/lib/dpkg/info/qemu-system-x86.md5sums
if [ -e "$sums" ]; then
	(cd / && grep ' usr/bin/qemu-system-x86_64$' "$sums" | md5sum --quiet -c) >/dev/null 2>&1 ||
		fail_story "QEMU is not the one that Debian built"
	stock=", byte by byte the one that its package brought"
fi
for n in 0 1; do
	waited 20 counts_on "$n" 0 || fail_story "processor $n of the guest does not count"
done
tell "The guest's Linux was up after $SECONDS seconds. On each of its two processors something counts and shows that on the guest's console:"
tail -n 4 "$work/console" | quote

proved "An ordinary guest runs under an ordinary QEMU${stock:-}."

# ---------------------------------------------------------------------------
begin_step "Which virtual machines are there?"

show kvmi list || fail_story "kvmi list does not work"
grep -qE "^$vmm +qemu-system-x86_64 +2 +96M +demo\$" <<<"$out" ||
	fail_story "the list does not have process $vmm, QEMU, 2 vCPUs, 96 MiB, demo"
show setpriv --reuid nobody --regid nogroup --clear-groups kvmi regs "$vmm" &&
	fail_story "user nobody may introspect root's VM"
grep -q 'no permission' <<<"$out" || fail_story "the message does not say why"

proved "VMs are found from outside. To look into one takes the right to debug its VMM; others are refused."

# ---------------------------------------------------------------------------
begin_step "What are its processors doing?"

shorten='grep -E ^(vCPU|rax|rip|rflags|cr0|cr3|efer|cs|lstar)' show kvmi regs "$vmm" || fail_story "kvmi regs does not work"
for n in 0 1; do
	grep -q "^vCPU $n: 64-bit mode, privilege level [03], 4-level paging" <<<"$out" ||
		fail_story "there is no vCPU $n, running 64-bit code"
done
tell "(Shortened.) LSTAR is where the kernel is entered for a system call. The guest's own kernel says where that is:"
seen=$(sed -n 's/^lstar *//p' <<<"$out" | sort -u)
show_guest "grep -m 1 ' entry_SYSCALL_64\$' /proc/kallsyms"
[ "${out%% *}" = "${seen:-none}" ] || fail_story "kvmi has LSTAR at $seen, the guest at ${out%% *}"

proved "The registers of a running guest are read from outside, and they are true."

# ---------------------------------------------------------------------------
begin_step "What is in its memory?"

show kvmi find "$vmm" 'Linux version 7' || fail_story "it was not found"
found=$out
tell "There are several copies: what the boot loader left behind, the kernel's own, its log. The guest itself says:"
show_guest "cat /proc/version"
gpa=$(grep -F "  $out" <<<"$found" | sed 's/ .*//;q')
[ -n "$gpa" ] || fail_story "this is not among what kvmi has found"
show kvmi dump "$vmm" "0x$gpa" 64 || fail_story "kvmi dump does not work"
grep -q "^$gpa  4c 69 6e 75 78 20 76 65  72 73 69 6f 6e 20 37 .*|Linux version 7" <<<"$out" ||
	fail_story "these bytes are others than those that were found"

proved "All of the guest's memory is searched while it runs, and any byte of it can be read."

# ---------------------------------------------------------------------------
begin_step "Pause and resume"

tell "Both processors get something to do; QEMU's monitor shows them at work:"
show_guest "for n in 0 1; do taskset -c \$n yes >/dev/null & done"
look 1
look 2
! cmp -s "$work/regs.1" "$work/regs.2" || fail_story "the vCPUs do not move"
show kvmi pause --daemon "$vmm" || fail_story "kvmi pause does not work"
sleep 1
before=$(stat -c %s "$work/console")
sleep 3
[ "$(stat -c %s "$work/console")" = "$before" ] || fail_story "the guest's console goes on"
tell "Nothing more came to the guest's console for 3 seconds. QEMU is not blocked by that, its monitor answers:"
look 1
look 2
cmp -s "$work/regs.1" "$work/regs.2" || fail_story "the vCPUs move"
show kvmi info "$vmm" && fail_story "two tools at a time"
show kvmi resume "$vmm" || fail_story "kvmi resume does not work"
for n in 0 1; do
	waited 20 counts_on "$n" "$(counted "$n")" || fail_story "processor $n of the guest does not go on"
done
no_gap || fail_story "the guest has lost something: it does not count one by one"
tell "The guest goes on counting, with the next number:"
tail -n 2 "$work/console" | quote
ask "killall yes"

proved "The guest stood still, all of it, without its VMM having a part in it; and it lost nothing."

# ---------------------------------------------------------------------------
begin_step "Hypercalls: the guest asks for an event"

tell "A program in the guest makes the hypercall for that (VMMCALL, rax 34, rdi 24, rsi 0), with a token in rdx. As long as no tool wants to know, it gets an error:"
show_guest "guest hypercall 1"
grep -q '^hypercall 0xc0de0001 returned -' <<<"$out" || fail_story "no error"
start_trace trace hypercall
show_guest "guest hypercall 3"
[ "$(grep -c 'returned 0$' <<<"$out")" = 3 ] || fail_story "the hypercalls did not return 0"
end_trace
for n in 1 2 3; do
	grep -qE "hypercall +vcpu [01] +rip 0000000000[0-9a-f]{6} .* cpl 3 .* rdx c0de000$n\$" "$work/trace" ||
		fail_story "there is no event with token c0de000$n"
done
grep -q '^3 events' "$work/trace" || fail_story "there are not 3 events"

proved "Each hypercall was an event, with the registers that the program had at that moment. It waited for kvmi's answer, and then got 0."

# ---------------------------------------------------------------------------
begin_step "Breakpoints"

start_trace trace breakpoint
show_guest "guest breakpoint 2"
[ "$(grep -c 'SIGTRAP came$' <<<"$out")" = 2 ] || fail_story "the guest did not get its breakpoints"
end_trace
skipped=''
events=$(grep -cE 'breakpoint +vcpu [01] +rip .* cpl 3 .* length 1$' "$work/trace") || true
case $events in
2)
	proved "kvmi saw each INT3 before the guest did, and then the guest had it: the program's SIGTRAP came." ;;
0)
	is_tcg || fail_story "there was no event"
	skipped=" One was skipped, as this emulator lacks what it takes."
	proved "SKIPPED: there was no event, because this processor is emulated by QEMU, and that does not deliver SVM's intercept of #BP for the INT3 instruction. \"make check\" shows it on the processors that Bochs emulates (bochs-vmx, bochs-svm). What is shown here: the guest has its breakpoints as usual." ;;
*)
	fail_story "there are not 2 events" ;;
esac

# ---------------------------------------------------------------------------
begin_step "The tool hangs, and is killed in the middle"

start_trace trace hypercall
printf '     $ kill -STOP %%1\n'
kill -STOP "$tracer"
command="taskset -c 1 guest hypercall 1"
printf '     guest# %s\n' "$command"
before=$(counted 0)
tell_guest "$command"
! answer 2 || fail_story "the hypercall returned although nobody answered"
waited 20 stands_still 1 || fail_story "processor 1 of the guest goes on"
waited 20 counts_on 0 "$before" || fail_story "processor 0 of the guest does not go on"
tell "kvmi is stopped and does not answer: the guest's processor 1, which made the hypercall, waits. Processor 0 goes on. Now kvmi is killed:"
printf '     $ kill -9 %%1\n'
{
	kill -9 "$tracer"
	wait "$tracer" || true
} 2>/dev/null
tracer=''
answer 20 || fail_story "the guest still waits"
quote <<<"${out%$'\n'}"
grep -q 'returned 0$' <<<"$out" || fail_story "the hypercall did not return 0"
for n in 0 1; do
	waited 20 counts_on "$n" "$(counted "$n")" || fail_story "processor $n of the guest does not go on"
done
no_gap || fail_story "the guest has lost something: it does not count one by one"
tell "The guest goes on counting:"
tail -n 2 "$work/console" | quote

tell "With a deadline nobody has to kill it: kvmi stops again, and after a second the kernel answers for it."
start_trace trace --deadline 1 hypercall
printf '     $ kill -STOP %%1\n'
kill -STOP "$tracer"
show_guest "guest hypercall 1"
grep -q 'returned 0$' <<<"$out" || fail_story "the hypercall did not return 0"
printf '     $ kill -CONT %%1\n'
kill -CONT "$tracer"
end_trace
grep -q '^1 event in' "$work/trace" || fail_story "kvmi, which was late, has not got its event"

proved "Whatever becomes of the tool, the guest goes on: the kernel has answered for it, and has taken back what it had asked for."

# ---------------------------------------------------------------------------
begin_step "Attach again, and leave"

start_trace trace hypercall
show_guest "guest hypercall 1"
grep -q 'returned 0$' <<<"$out" || fail_story "the hypercall did not return 0"
end_trace
grep -q '^1 event in' "$work/trace" || fail_story "there is not 1 event"
tell "kvmi has left. For the guest everything is as it was at first:"
show_guest "guest hypercall 1"
grep -q '^hypercall 0xc0de0001 returned -' <<<"$out" || fail_story "no error"

proved "The next tool can attach at once; when the last one has left, nothing stays behind."

# ---------------------------------------------------------------------------
begin_step "A rootkit patches the guest's kernel"

# is_patched, is_whole: what getpid() is in the guest.
is_patched() {
	show_guest "guest getpid"
	[[ $out == "getpid returned 31337 in process "* ]] || fail_story "getpid() is not what the rootkit makes of it"
}

is_whole() {
	show_guest "guest getpid"
	[ "$(awk '{ print ($3 == $6) }' <<<"$out")" = 1 ] || fail_story "getpid() is not what it was"
}

tell "What a rootkit does first: with all rights in the guest, a module of its own in the guest's kernel clears the processor's write protection (CR0.WP) and overwrites a system call, here getpid()."
ask "grep -m 1 ' __x64_sys_getpid\$' /proc/kallsyms"
getpid=${out%% *}
[ "${#getpid}" = 16 ] || fail_story "the guest does not say where getpid() is"
show_guest "insmod /lib/rootkit.ko address=0x$getpid"
is_whole
show_guest "echo wp >/proc/rootkit"
is_patched
show_guest "echo undo >/proc/rootkit"
is_whole

proved "Nothing in the guest could prevent that: who has the kernel's rights can change the kernel."

# ---------------------------------------------------------------------------
begin_step "kvmi protect: the kernel is locked from outside"

tell "The kernel is found in the guest's memory without help from the guest, and its pages are write-protected in the processor's second level of page tables (NPT), which the guest cannot reach:"
start_trace protect
tell "The same again, and then by another way: a writable mapping of the same page at another address."
for way in wp alias; do
	show_guest "echo $way >/proc/rootkit"
	is_whole
done
show_guest "cat /proc/rootkit"
[ "$out" = "getpid is as it was" ] || fail_story "the guest's kernel was changed"
end_trace
gpa=$(sed -n 's/^text *\([0-9a-f]*\)-[0-9a-f]* *gpa \([0-9a-f]*\).*/\1 \2/p' "$work/trace" | head -n 1)
printf -v gpa '%x' $((0x$getpid - 0x${gpa% *} + 0x${gpa#* }))
[ "$(grep -c "pf .* cpl 0 .*gpa $gpa .*text" "$work/trace")" = 2 ] || fail_story "there are not 2 attempts at $gpa"
grep -q '^2 attempts in .*: text 2' "$work/trace" || fail_story "there are not 2 attempts"
for n in 0 1; do
	waited 20 counts_on "$n" "$(counted "$n")" || fail_story "processor $n of the guest does not go on"
done
tell "The guest is alive. kvmi has gone, and with it the protection:"
show_guest "echo wp >/proc/rootkit"
is_patched
show_guest "echo undo >/proc/rootkit"
is_whole

proved "The write did not happen, whichever way it came: the instruction got a fault instead, and kvmi has told where it was (rip), in which address space (cr3), and what it wanted (gpa)."

# ---------------------------------------------------------------------------
begin_step "The guest runs on, and powers off"

show_guest "uptime"
tell_guest "poweroff -f"
rc=0
wait "$vmm" || rc=$?
vmm=''
[ "$rc" = 0 ] || fail_story "QEMU ended with exit code $rc: $(tail -n 3 "$work/vmm")"
show kvmi list || fail_story "kvmi list does not work"
grep -q 'there is no VM' <<<"$out" || fail_story "a VM is left"
splat=$(grep -aE 'BUG|WARNING|Oops|Call Trace|stall|soft lockup' "$work/console" | head -n 1) || true
[ -z "$splat" ] || fail_story "the guest's kernel complained: $splat"

proved "The guest never noticed more than a pause."

printf '\nAll %d steps did what they say, in %d seconds.%s\n' "$step" "$SECONDS" "$skipped"
