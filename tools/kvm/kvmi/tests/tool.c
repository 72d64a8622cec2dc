// SPDX-License-Identifier: GPL-2.0
/*
 * Tests: the command itself, with the fake behind its --socket.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

static const char *kvmi;
char out[OUTPUT], err[OUTPUT];
static size_t out_len;

static size_t read_all(int fd, char *buf)
{
	size_t got = 0;
	ssize_t n;

	while ((n = read(fd, buf + got, OUTPUT - 1 - got)) > 0)
		got += n;
	buf[got] = '\0';
	close(fd);
	return got;
}

/* Start kvmi with @args (separated by spaces, '_' stands for one), with a fake or without. */
struct run kvmi_start(const struct fake *fake, const char *args)
{
	char words[256], socket[16], *argv[20] = { (char *)kvmi };
	char *word, *c, *save;
	int sock = -1, outs[2], errs[2], n = 1;
	struct run run = { .fake = -1 };

	if (fake) {
		run.fake = fake_start(fake, &sock);
		snprintf(socket, sizeof(socket), "%d", sock);
		argv[n++] = "--socket";
		argv[n++] = socket;
	}
	snprintf(words, sizeof(words), "%s", args);
	for (word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		for (c = word; *c; c++)
			if (*c == '_')
				*c = ' ';
		argv[n++] = word;
	}

	if (pipe2(outs, O_CLOEXEC) || pipe2(errs, O_CLOEXEC))
		exit(2);
	run.pid = fork();
	if (!run.pid) {
		dup2(outs[1], STDOUT_FILENO);
		dup2(errs[1], STDERR_FILENO);
		if (sock >= 0)
			fcntl(sock, F_SETFD, 0);
		alarm(60);
		execv(kvmi, argv);
		_exit(127);
	}
	close(outs[1]);
	close(errs[1]);
	if (sock >= 0)
		close(sock);
	run.out = outs[0];
	run.err = errs[0];

	return run;
}

/* Wait for its end; returns its exit code, -1: it died, or the fake saw something wrong. */
int kvmi_finish(const struct run *run)
{
	int status;

	out_len = read_all(run->out, out);
	read_all(run->err, err);
	waitpid(run->pid, &status, 0);
	if (run->fake > 0 && !peer_end(run->fake))
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int kvmi_run(const struct fake *fake, const char *args)
{
	struct run run = kvmi_start(fake, args);

	return kvmi_finish(&run);
}

bool has(const char *text, const char *part, const char *name)
{
	if (ok(strstr(text, part), "%s", name))
		return true;
	printf("# '%s' is not in: %.300s\n", part, text);
	return false;
}

static void test_usage(void)
{
	static const char * const wrong[] = {
		"", "nonsense", "list 1", "list --live", "list --socket 3", "regs", "regs 1 2",
		"regs -c 1x 1", "regs --vcpu 99999999 1", "dump 1", "dump 1 0", "dump 1 0 0",
		"dump 1 0 x", "dump 1 -5 1", "dump 1 0xffffffffffffffff 2",
		"dump --raw --json 1 0 1", "find 1", "find 1 a b", "find --hex 1 xyz",
		"find --hex 1 abc", "find -n -1 1 x", "find --from z 1 x", "trace 1 nothing",
		"trace --seconds x 1", "trace --seconds -1 1",
		"trace --deadline 0 1", "step --deadline 1 1", "trace --socket 3 --deadline 1",
		"pause", "pause --seconds 0 1", "resume", "info --count 1 1", "--timeout 0 list",
		"--json", "regs --no-such-option 1", "regs -t 1", "dump --hex 1 0 1",
		"trace 1 cr1", "trace 1 msr:", "trace 1 msr:NONE", "trace 1 msr:0x800",
		"trace 1 msr:0x2000", "trace 1 pf", "trace -c 0 1", "step", "step 1 2",
		"step -n x 1", "step --seconds 1 1", "translate 1", "translate 1 x",
		"translate 1 0 0", "translate -n 1 1 0", "msr-guard", "msr-guard 1",
		"msr-guard 1 NONE", "msr-guard 1 LSTAR -5", "msr-guard 1 0x8ff",
		"msr-guard 1 0xbfffffff", "msr-guard 1 0xc0002000", "msr-guard -c 0 1 LSTAR",
		"protect", "protect 1 2", "protect --fault ud 1", "protect --log --block 1",
		"protect --log --fault gp 1", "protect -c 0 1", "protect --symbols 1",
		"protect --symbols /nonexistent 1", "trace --log 1",
	};
	static const char * const commands[] = {
		"list", "info", "regs", "dump", "find", "pause", "resume", "trace", "step",
		"translate", "msr-guard", "protect",
	};
	char args[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		int r = kvmi_run(NULL, wrong[i]);

		ok(r == 2 && *err && (!*out || *out == '{'), "wrong usage: kvmi %s", wrong[i]);
	}

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		snprintf(args, sizeof(args), "%s --help", commands[i]);
		is_number(kvmi_run(NULL, args), 0, args);
		snprintf(args, sizeof(args), "Usage: kvmi %s", commands[i]);
		has(out, args, "says how");
	}
	is_number(kvmi_run(NULL, "--help"), 0, "--help");
	has(out, "trace PID", "lists the commands");
	has(out, "protect PID", "the last one too");
	is_number(kvmi_run(NULL, "--version"), 0, "--version");
	has(out, "protocol version 1\n", "and that of the protocol");

	is_number(kvmi_run(NULL, "regs 2147483647"), 3, "no such process");
	has(err, "kvmi: no process 2147483647\n", "it says so");
	is_number(kvmi_run(NULL, "regs --json no_such_name"), 3, "no such name");
	has(out, "{\"error\":{\"code\":3,\"name\":\"no-vm\",", "for machines");
	has(out, ",\"text\":\"no VM has the name no such name\"}}\n", "in words");
	snprintf(args, sizeof(args), "info %d", getpid());
	is_number(kvmi_run(NULL, args), 3, "a process without VM");
	is_number(kvmi_run(NULL, "list --json"), 0, "list");
	ok(is_json(out, "\n"), "is JSON");
	is_number(kvmi_run(NULL, "info --socket 99"), 10, "a socket that is none");
}

static void test_info(void)
{
	struct fake fake = { .vcpus = 2 };

	is_number(kvmi_run(&fake, "info"), 0, "info");
	has(out, "below 0x304000", "the end of memory");
	has(out, "2500.000 MHz", "the TSC");
	has(out, "get-version", "what it can");
	is_number(kvmi_run(&fake, "info --json"), 0, "info --json");
	ok(is_json(out, "\n"), "is JSON");
	has(out, "\"vcpus\":2,", "with the vCPUs");
	fake.stopped = 3;
	is_number(kvmi_run(&fake, "info --timeout 0.05"), 0, "info on a stopped VM");
	has(err, "no answer from vCPU 0", "says what it lacks");
	fake = (struct fake){ .vcpus = 1, .denied = KVMI_VM_GET_MAX_GFN };
	is_number(kvmi_run(&fake, "info"), 10, "a command that is not allowed");
	has(err, "get-max-gfn: the VMM does not allow it", "says so");
	fake = (struct fake){ .vcpus = 1, .close_after = 3 };
	is_number(kvmi_run(&fake, "info"), 3, "the VM goes away");
	has(err, "the VM is gone", "it says so");
}

static void test_regs(void)
{
	struct fake fake = { .vcpus = 3 };
	int round;

	for (round = 0; round < 3; round++) {
		fake.slow = round == 1;
		fake.stray = round == 2;
		is_number(kvmi_run(&fake, "regs"), 0, "regs");
		has(out, "vCPU 0: 64-bit mode, privilege level 0, 4-level paging\n", "the first");
		has(out, "rip    ffffffff81000002\n", "the last");
		has(out, "cr0    0000000080050033  [ PE MP ET NE WP AM PG ]\n", "flags");
		has(out, "lstar            00000000c05a0082\n", "an MSR");
		ok(!strstr(out, "\npat "), "not the one that the processor lacks");
		is_number(kvmi_run(&fake, "regs --json -c 1"), 0, "regs of one");
		ok(is_json(out, "\n"), "is JSON");
		has(out, "[{\"vcpu\":1,", "only that one");
		has(out, "\"rip\":\"0xffffffff81000001\"", "its rip");
		ok(!strstr(out, "\"vcpu\":2"), "no other");
	}
	is_number(kvmi_run(&fake, "regs --live"), 0, "regs --live");
	has(out, "rip    ffffffff81000002\n", "all of them");
	is_number(kvmi_run(&fake, "regs -c 3"), 2, "there is no such vCPU");

	fake = (struct fake){ .vcpus = 3, .stopped = 2 };
	is_number(kvmi_run(&fake, "regs --timeout 0.1"), 9, "one is stopped");
	has(out, "vCPU 1: does not run, its VMM has stopped it\n", "it says so");
	has(out, "rip    ffffffff81000002\n", "and shows the others");
	is_number(kvmi_run(&fake, "regs --live --json --timeout 0.1"), 9, "and live");
	ok(is_json(out, "\n"), "is JSON");
	has(out, "{\"vcpu\":1,\"error\":\"no answer from vCPU 1", "it says so");
	fake = (struct fake){ .vcpus = 2, .not_started = 2 };
	is_number(kvmi_run(&fake, "regs --live"), 0, "one was not started");
	has(out, "vCPU 1: vCPU 1 was not started yet\n", "it says so");
	fake = (struct fake){ .vcpus = 2, .close_after = 6 };
	is_number(kvmi_run(&fake, "regs --json"), 3, "the VM goes away in the middle");
	ok(strchr(out, '\n') && is_json(out, "\n") && is_json(strchr(out, '\n') + 1, "\n"),
	   "whole values for machines");
}

static void test_dump(void)
{
	struct fake fake = { .vcpus = 1 };
	size_t i;
	bool good = true;

	is_number(kvmi_run(&fake, "dump 0x200ff8 0x2a"), 0, "dump");
	is_string(out,
		  "000000200ff8  73 70 6c 69 74 20 73 74  72 69 6e 67 80 80 80 80  |split string....|\n"
		  "000000201008  81 81 81 81 81 81 81 81  82 82 82 82 82 82 82 82  |................|\n"
		  "000000201018  83 83 83 83 83 83 83 83  84 84                    |..........|\n"
		  "000000201022\n", "across a page");
	is_number(kvmi_run(&fake, "dump 0x9ffc0 0x60050"), 0, "dump around the hole");
	is_string(out,
		  "00000009ffc0  f8 f8 f8 f8 f8 f8 f8 f8  f9 f9 f9 f9 f9 f9 f9 f9  |................|\n"
		  "00000009ffd0  fa fa fa fa fa fa fa fa  fb fb fb fb fb fb fb fb  |................|\n"
		  "00000009ffe0  fc fc fc fc fc fc fc fc  fd fd fd fd fd fd fd fd  |................|\n"
		  "00000009fff0  fe fe fe fe fe fe fe fe  ff ff 65 64 67 65 20 6f  |..........edge o|\n"
		  "0000000a0000  -- no memory: 393216 bytes --\n"
		  "000000100000  66 20 68 6f 6c 65 00 00  00 00 00 00 00 00 00 00  |f hole..........|\n"
		  "000000100010\n", "with the hole told once");
	is_number(kvmi_run(&fake, "dump --live 0x2000 4K"), 0, "dump a page of zeroes");
	is_string(out,
		  "000000002000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n"
		  "*\n"
		  "000000003000\n", "folded");
	is_number(kvmi_run(&fake, "dump --raw 0x1ff000 0x12345"), 0, "dump --raw");
	for (i = 0; i < 0x12345 && out_len == 0x12345; i++)
		good &= (__u8)out[i] == fake_byte(0x1ff000 + i);
	ok(good && out_len == 0x12345, "every byte");
	is_number(kvmi_run(&fake, "dump --json 0x9fffe 0x60004"), 0, "dump --json");
	is_string(out,
		  "{\"gpa\":\"0x9fffe\",\"length\":393220,\"memory\":[{\"gpa\":\"0x9fffe\",\"data\":\"206f\"},{\"gpa\":\"0xa0000\",\"hole\":393216},{\"gpa\":\"0x100000\",\"data\":\"6620\"}]}\n",
		  "for machines");
}

static void test_find(void)
{
	struct fake fake = { .vcpus = 1 };

	is_number(kvmi_run(&fake, "find split_string"), 0, "find across a page");
	has(out, "000000200ff8  split string\n", "its address");
	has(err, "kvmi: 1 match in", "once");
	fake.slow = true;
	is_number(kvmi_run(&fake, "find twice --from 0x203000"), 0, "find");
	is_string(out, "000000203100  twice twice\n000000203106  twice twice\n",
		  "both, with what is around");
	fake.slow = false;
	is_number(kvmi_run(&fake, "find twice -n 1"), 0, "find one");
	is_string(out, "000000203100  twice twice\n", "the first");
	has(err, "there may be more", "it says so");
	is_number(kvmi_run(&fake, "find edge_of_hole"), 1, "nothing across a hole");
	is_string(out, "", "no output");
	is_number(kvmi_run(&fake, "find the_last --pause"), 0, "at the very end of memory");
	is_string(out, "000000303ff8  the last\n", "its address");
	is_number(kvmi_run(&fake, "find --hex 73706c69_7420"), 0, "find bytes");
	has(out, "000000200ff8", "the address");
	is_number(kvmi_run(&fake, "find --from 0x202000 split"), 1, "not below --from");
	is_number(kvmi_run(&fake, "find --to 0x200000 split"), 1, "not above --to");
	is_number(kvmi_run(&fake, "find --from 1T split"), 2, "outside of memory");
	is_number(kvmi_run(&fake, "find --json twice"), 0, "find --json");
	ok(is_json(out, "\n"), "is JSON");
	has(out, "{\"matches\":[{\"gpa\":\"0x203100\",\"text\":\"twice twice\"},",
	    "with the matches");
	has(out, "\"count\":2,\"complete\":true", "and how many");
	is_number(kvmi_run(&fake, "find --json nothing"), 1, "nothing, for machines");
	has(out, "{\"matches\":[],\"count\":0", "an empty list");
	fake.close_after = 100;
	is_number(kvmi_run(&fake, "find --json twice"), 3, "the VM goes away in the middle");
	ok(is_json(out, "\n"), "is JSON nevertheless");
}

int count_lines(const char *text, const char *part)
{
	int n = 0;

	while ((text = strstr(text, part))) {
		n++;
		text++;
	}
	return n;
}

bool all_json(const char *text)
{
	for (; *text; text = strchr(text, '\n') + 1)
		if (!is_json(text, "\n"))
			return false;
	return true;
}

static void test_trace(void)
{
	struct fake fake = { .vcpus = 2, .events = 5 };
	struct run run;

	is_number(kvmi_run(&fake, "trace -n 5"), 0, "trace");
	is_number(count_lines(out, "  hypercall   vcpu 0  rip 0000000000401"), 3, "hypercalls");
	is_number(count_lines(out, "  breakpoint  vcpu 0  rip 0000000000401"), 2, "breakpoints");
	has(out, "gpa 5000  length 1\n", "their payload");
	has(out, "cr3 0000000001234000  cpl 3", "and state");
	has(out, "\n5 events in ", "the numbers");
	has(out, "unhook 0 hypercall 3 breakpoint 2 xsetbv 0 descriptor 0 msr 0\n", "by event");

	is_number(kvmi_run(&fake, "trace -n 3"), 0, "trace 3 of 5");
	has(out, "\n3 events in ", "no more than that");

	fake.slow = true;
	is_number(kvmi_run(&fake, "trace --json -n 4 hypercall breakpoint"), 0, "trace --json");
	ok(all_json(out), "a value a line");
	has(out, "\"event\":\"hypercall\",\"seq\":1,\"vcpu\":0,", "an event");
	has(out, "\"rdx\":\"0xc0de0001\"", "with registers");
	has(out, "\"gpa\":\"0x5000\",\"length\":1}", "and payload");
	has(out, "{\"summary\":{\"seconds\":", "the numbers");
	fake.slow = false;

	fake.unhook = true;
	is_number(kvmi_run(&fake, "trace"), 0, "the VMM unhooks");
	has(out, "  unhook\n", "it is shown");
	has(out, "\n6 events in ", "and ends the trace");
	fake.unhook = false;

	is_number(kvmi_run(&fake, "trace --seconds 0.3"), 0, "trace for some time");
	has(out, "\n5 events in ", "all there were");

	fake.events = 0;
	is_number(kvmi_run(&fake, "trace -n 2 pause"), 0, "trace pauses");
	is_number(count_lines(out, "  pause       vcpu "), 2, "one a vCPU");

	fake.not_started = 2;
	fake.events = 1;
	is_number(kvmi_run(&fake, "trace -n 1"), 0, "one vCPU was not started");
	fake = (struct fake){ .vcpus = 2, .stopped = 2, .events = 1 };
	is_number(kvmi_run(&fake, "trace -n 1 -t 0.1"), 0, "one vCPU is stopped");
	has(err, "vCPU 1 does not run", "it says so");

	/* Commands before the end: version, 2 checks, count, 2 events of 1 vCPU */
	fake = (struct fake){ .vcpus = 1, .events = 3, .close_after = 6 };
	is_number(kvmi_run(&fake, "trace hypercall breakpoint"), 3, "the VM goes away");
	has(out, "\n3 events in ", "the numbers nevertheless");
	has(err, "the VM is gone", "and why");

	fake = (struct fake){ .vcpus = 2, .events = 2 };
	run = kvmi_start(&fake, "trace");
	usleep(300000);
	kill(run.pid, SIGINT);
	is_number(kvmi_finish(&run), 0, "^C ends a trace");
	has(out, "\n2 events in ", "with the numbers");
}

/* What is rare, and switched on if nothing is named */
static const struct fake_guest rare = {
	.events = 1 << KVMI_VCPU_EVENT_HYPERCALL | 1 << KVMI_VCPU_EVENT_BREAKPOINT |
		  1 << KVMI_VCPU_EVENT_XSETBV | 1 << KVMI_VCPU_EVENT_DESCRIPTOR |
		  1 << KVMI_VCPU_EVENT_MSR,
	.msrs = { 0x174, 0x175, 0x176, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083 },
	.nr_msrs = 7,
	.does = {
		{ .id = KVMI_VCPU_EVENT_XSETBV, .payload_size = 24,
		  .xsetbv = { .xcr = 0, .old_value = 3, .new_value = 7 } },
		{ .id = KVMI_VCPU_EVENT_DESCRIPTOR, .payload_size = 8,
		  .descriptor = { .descriptor = KVMI_DESC_IDTR, .write = 1 } },
		{ .id = KVMI_VCPU_EVENT_DESCRIPTOR, .payload_size = 8,
		  .descriptor = { .descriptor = KVMI_DESC_TR } },
		{ .id = KVMI_VCPU_EVENT_MSR, .payload_size = 24,
		  .msr = { .msr = 0x176, .old_value = 0, .new_value = 0xffffffff81a00080 } },
	},
	.answers = { [3] = 0xffffffff81a00080 },
	.nr = 4,
};

/* What has to be named: "cr4 cr3 msr:0x140 msr:lstar trap" */
static const struct fake_guest named = {
	.events = 1 << KVMI_VCPU_EVENT_CR | 1 << KVMI_VCPU_EVENT_MSR | 1 << KVMI_VCPU_EVENT_TRAP,
	.crs = 1 << 3 | 1 << 4,
	.msrs = { 0xc0000082, 0x140, 0x1234 },
	.nr_msrs = 3,
	.does = {
		{ .id = KVMI_VCPU_EVENT_CR, .payload_size = 24,
		  .cr = { .cr = 4, .old_value = 0x6f0, .new_value = 0x1006f0 } },
		{ .id = KVMI_VCPU_EVENT_CR, .payload_size = 24,
		  .cr = { .cr = 3, .old_value = 0x1000, .new_value = 0x2000 } },
		{ .id = KVMI_VCPU_EVENT_MSR, .payload_size = 24,
		  .msr = { .msr = 0x140, .old_value = 1, .new_value = 0 } },
		{ .id = KVMI_VCPU_EVENT_MSR, .payload_size = 24,
		  .msr = { .msr = 0x1234, .old_value = 5, .new_value = 6 } },
		{ .id = KVMI_VCPU_EVENT_TRAP, .payload_size = 16,
		  .trap = { .nr = 14, .error_code = 2, .address = 0xdeadbeef } },
		{ .id = KVMI_VCPU_EVENT_TRAP, .payload_size = 16, .trap = { .nr = 15 } },
	},
	.answers = { 0x1006f0, 0x2000, 0, 6 },
	.nr = 6,
};

static void test_trace_registers(void)
{
	static const struct fake_guest crs = {
		.events = 1 << KVMI_VCPU_EVENT_CR,
		.crs = 1 << 0 | 1 << 3 | 1 << 4,
		.does = { { .id = KVMI_VCPU_EVENT_CR, .payload_size = 24,
			    .cr = { .cr = 0, .old_value = 1, .new_value = 2 } } },
		.answers = { 2 },
		.nr = 1,
	};
	struct fake fake = { .vcpus = 2, .guest = &rare };

	is_number(kvmi_run(&fake, "trace -n 4"), 0, "trace what is rare");
	has(out,
	    "  xsetbv      vcpu 0  rip 0000000000401001  cr3 0000000001234000  cpl 3  xcr0 3 -> 7\n",
	    "XSETBV");
	has(out, "  descriptor  vcpu 0  rip 0000000000401002", "a descriptor table register");
	has(out, "cpl 3  load idtr\n", "is loaded");
	has(out, "cpl 3  store tr\n", "another is stored");
	has(out, "cpl 3  SYSENTER_EIP 0000000000000000 -> ffffffff81a00080\n", "an MSR");
	has(out, "\n4 events in ", "the numbers");
	has(out, ": unhook 0 hypercall 0 breakpoint 0 xsetbv 1 descriptor 2 msr 1\n", "by event");
	is_number(kvmi_run(&fake, "trace --json -n 4"), 0, "for machines");
	ok(all_json(out), "a value a line");
	has(out, "\"xcr\":0,\"old\":\"0x3\",\"new\":\"0x7\"}\n", "XSETBV");
	has(out, "\"register\":\"idtr\",\"access\":\"load\"}\n", "a descriptor table register");
	has(out,
	    "\"msr\":\"0x176\",\"register\":\"SYSENTER_EIP\",\"old\":\"0x0\",\"new\":\"0xffffffff81a00080\"}\n",
	    "an MSR");

	fake.guest = &named;
	is_number(kvmi_run(&fake, "trace -n 6 cr4 cr3 msr:0x140 msr:lstar msr:0x1234 trap"), 0,
		  "trace what is named");
	has(out, "  cr          vcpu 0  rip 0000000000401001", "a control register");
	has(out, "cpl 3  cr4 00000000000006f0 -> 00000000001006f0\n", "its change");
	has(out, "cpl 3  cr3 0000000000001000 -> 0000000000002000\n", "another");
	has(out, "cpl 3  MISC_FEATURES_ENABLES 0000000000000001 -> 0000000000000000\n", "an MSR");
	has(out, "cpl 3  0x1234 0000000000000005 -> 0000000000000006\n", "one without name");
	has(out, "cpl 3  vector 14 #PF  error 2  address deadbeef\n", "an exception");
	has(out, "cpl 3  vector 15 unknown  error 0  address 0\n", "one without name");
	is_number(kvmi_run(&fake, "trace --json -n 6 cr4 cr3 msr:0x140 msr:LSTAR msr:0x1234 trap"),
		  0, "for machines");
	ok(all_json(out), "a value a line");
	has(out, "\"register\":\"cr4\",\"old\":\"0x6f0\",\"new\":\"0x1006f0\"}\n",
	    "a control register");
	has(out, "\"msr\":\"0x1234\",\"register\":null,\"old\":\"0x5\",\"new\":\"0x6\"}\n",
	    "an MSR without name");
	has(out,
	    "\"vector\":14,\"exception\":\"#PF\",\"error_code\":\"0x2\",\"address\":\"0xdeadbeef\"}\n",
	    "an exception");

	fake.guest = &crs;
	is_number(kvmi_run(&fake, "trace --seconds 0.2 cr"), 0, "cr stands for three registers");
	has(out, ": cr 1\n", "all of them");
	is_number(kvmi_run(&fake, "trace --seconds 0.2 cr4 cr0 cr3 cr0"), 0, "each by its name");
	has(out, ": cr 1\n", "all of them");
	is_number(kvmi_run(&fake, "trace --seconds 0.2 cr msr"), -1, "the fake sees what is more");
}

static void test_trace_lacks(void)
{
	struct fake fake = { .vcpus = 2, .events = 5, .unknown = 0xffffffc0 };

	is_number(kvmi_run(&fake, "trace -n 5"), 0, "a kernel with few events");
	has(out, ": unhook 0 hypercall 3 breakpoint 2\n", "those");
	is_number(kvmi_run(&fake, "trace hypercall msr:LSTAR"), 6, "but not what is named");
	is_string(err,
		  "kvmi: this kernel does not have the event msr: 'kvmi info' shows those it has\n",
		  "it says so");
	is_number(kvmi_run(&fake, "trace --json cr3"), 6, "for machines");
	has(out, "{\"error\":{\"code\":6,\"name\":\"no-support\",", "as a code");
	is_number(kvmi_run(&fake, "msr-guard LSTAR"), 6, "nor msr-guard");
	has(err, "this kernel does not have the event msr", "it says so");

	fake = (struct fake){ .vcpus = 2 };
	is_number(kvmi_run(&fake, "trace --seconds 0.1 msr:DEBUGCTL msr:0x48"), 0,
		  "MSRs that cannot be traced");
	is_number(count_lines(err, "MSR DEBUGCTL of vCPU 0 cannot be intercepted\n"), 1,
		  "it says so once");
	has(err, "MSR SPEC_CTRL of vCPU 0: the VMM does not allow to intercept it\n", "and why");
	fake.denied = KVMI_VCPU_CONTROL_CR;
	is_number(kvmi_run(&fake, "trace --seconds 0.1 cr"), 0, "a command that is not allowed");
	has(err, "control-cr of vCPU 0: the VMM does not allow it\n", "it says so");

	fake = (struct fake){ .vcpus = 2, .stopped = 2 };
	is_number(kvmi_run(&fake, "trace --seconds 0.1 -t 0.1 msr"), 0, "one vCPU is stopped");
	is_number(count_lines(err, "vCPU 1 does not run"), 1, "it says so once");

	fake = (struct fake){ .vcpus = 2 };
	is_number(kvmi_run(&fake, "trace -n 3 singlestep"), 0, "trace instructions");
	has(out, "  singlestep  vcpu 1  rip ffffffff81000002", "on all vCPUs");
	has(out, ": singlestep 3\n", "the numbers");
}

static const struct fake_guest hijack = {
	.events = 1 << KVMI_VCPU_EVENT_MSR,
	.msrs = { 0xc0000082, 0x1234 },
	.nr_msrs = 2,
	.does = {
		{ .id = KVMI_VCPU_EVENT_MSR, .payload_size = 24,
		  .msr = { .msr = 0xc0000082, .old_value = 0x81a00000, .new_value = 0x41414141 } },
		{ .id = KVMI_VCPU_EVENT_MSR, .payload_size = 24,
		  .msr = { .msr = 0x1234, .old_value = 1, .new_value = 2 } },
		{ .id = KVMI_VCPU_EVENT_MSR, .payload_size = 24,
		  .msr = { .msr = 0xc0000082, .old_value = 0x81a00000, .new_value = 0 } },
	},
	.answers = { 0x81a00000, 1, 0x81a00000 },
	.nr = 3,
};

static void test_guard(void)
{
	struct fake fake = { .vcpus = 3, .guest = &hijack };
	struct run run;

	run = kvmi_start(&fake, "msr-guard LSTAR 0x1234 lstar");
	usleep(300000);
	kill(run.pid, SIGINT);
	is_number(kvmi_finish(&run), 0, "^C ends a guard");
	has(err, "2 MSRs of 3 vCPUs guarded, ^C ends", "it says what it does");
	has(out,
	    "  msr         vcpu 0  rip 0000000000401001  cr3 0000000001234000  cpl 3  LSTAR 0000000081a00000 -> 0000000041414141  denied\n",
	    "an attempt");
	has(out, "  0x1234 0000000000000001 -> 0000000000000002  denied\n", "another");
	has(out, "\n3 attempts in ", "the numbers");
	has(out, " s: LSTAR 2 0x1234 1\n", "by MSR");

	is_number(kvmi_run(&fake, "msr-guard --json -n 3 LSTAR 0x1234"), 0, "msr-guard --json");
	ok(all_json(out), "a value a line");
	has(out,
	    "\"register\":\"LSTAR\",\"old\":\"0x81a00000\",\"new\":\"0x41414141\",\"verdict\":\"denied\"}\n",
	    "an attempt");
	has(out, "\"attempts\":3,\"LSTAR\":2,\"0x1234\":1}}\n", "the numbers");

	fake = (struct fake){ .vcpus = 1 };
	is_number(kvmi_run(&fake, "msr-guard --seconds 0.1 EFER"), 0, "guard for some time");
	has(out, " s: EFER 0\n", "no attempt");
	is_number(kvmi_run(&fake, "msr-guard LSTAR DEBUGCTL"), 10, "what cannot be guarded");
	is_string(err, "kvmi: MSR DEBUGCTL of vCPU 0 cannot be intercepted\n", "ends it");
	is_string(out, "", "at once");
	is_number(kvmi_run(&fake, "msr-guard 0x48"), 10, "nor what the VMM does not allow");
	has(err, "MSR SPEC_CTRL of vCPU 0: the VMM does not allow to intercept it\n", "it says so");
	is_number(kvmi_run(&fake, "msr-guard none"), 2, "no MSR");
	has(err,
	    "none is no MSR: a name such as LSTAR, or a number such as 0xc0000082",
	    "it says so");
	is_number(kvmi_run(&fake, "msr-guard 0x808"), 2, "an MSR of x2APIC");
	has(err, "MSR 0x808 cannot be intercepted: 0 to 0x7ff, 0x900 to 0x1fff", "it says so");
	fake.close_after = 5;
	is_number(kvmi_run(&fake, "msr-guard LSTAR"), 3, "the VM goes away");
	has(err, "the VM is gone", "it says so");
}

static void test_step(void)
{
	struct fake fake = { .vcpus = 2 };
	struct run run;
	int sig;

	is_number(kvmi_run(&fake, "step"), 0, "step");
	has(out, "ffffffff81000000  55", "the instruction");
	has(out, "\n1 step of vCPU 0, which goes on at ffffffff81000001\n", "and what is next");
	is_number(kvmi_run(&fake, "step -c 1 -n 4"), 0, "step 4");
	has(out, "ffffffff81000001  90", "the first");
	has(out, "\nffffffff81000002  5d", "the second");
	has(out, "\nffffffff81000003  50", "the third");
	has(out, "\nffffffff81000004  58", "the fourth");
	has(out, "\n4 steps of vCPU 1, which goes on at ffffffff81000005\n", "no more");
	is_number(kvmi_run(&fake, "step --json -n 2"), 0, "step --json");
	ok(all_json(out), "a value a line");
	has(out, "{\"vcpu\":0,\"rip\":\"0xffffffff81000000\",\"bytes\":\"55", "an instruction");
	has(out, ",\"failed\":false}\n", "it was done");
	has(out, "{\"summary\":{\"vcpu\":0,\"steps\":2,\"next\":\"0xffffffff81000002\"}}\n",
	    "the numbers");

	fake.rip = FAKE_CODE + 0xffe;
	is_number(kvmi_run(&fake, "step"), 0, "an instruction over two pages");
	has(out, "ffffffff81000ffe  48 89 e5", "all of it");
	fake.rip = FAKE_CODE + 0x1fff;
	is_number(kvmi_run(&fake, "step -n 2"), 0, "the end of what is mapped");
	has(out, "ffffffff81001fff  00\n", "a byte");
	has(out, "ffffffff81002000  (not mapped)\n", "nothing");
	fake.rip = FAKE_CODE + 0x3000;
	is_number(kvmi_run(&fake, "step --json"), 0, "no memory");
	has(out, "\"bytes\":null,\"instruction\":null,", "for machines");
	fake.rip = 0x1000;
	fake.mode = 4;
	is_number(kvmi_run(&fake, "step -n 2"), 0, "a code segment with a base");
	has(out, "0000000000001000  55", "counts in 32-bit mode");
	has(out, "0000000000001001  90", "always");

	fake = (struct fake){ .vcpus = 1, .failed_step = 2 };
	is_number(kvmi_run(&fake, "step -n 3"), 0, "a step fails");
	is_number(count_lines(out, "  (not completed)\n"), 1, "it says so");
	has(out, "\n3 steps of vCPU 0, which goes on at ffffffff81000002\n", "and goes on");
	is_number(kvmi_run(&fake, "step -n 3 --json"), 0, "for machines");
	is_number(count_lines(out, "\"failed\":true}\n"), 1, "it says so");

	/* The fake does not like it when single-stepping is left on. */
	for (sig = SIGINT; sig; sig = sig == SIGINT ? SIGTERM : 0) {
		fake = (struct fake){ .vcpus = 1, .steps = 2 };
		run = kvmi_start(&fake, "step -n 0");
		usleep(300000);
		kill(run.pid, sig);
		is_number(kvmi_finish(&run), 0, sig == SIGINT ? "^C ends it" : "SIGTERM ends it");
		has(out, "\n2 steps of vCPU 0, ", "with the numbers");
	}
	fake = (struct fake){ .vcpus = 1, .steps = 1 };
	is_number(kvmi_run(&fake, "step -n 3 -t 0.1"), 9, "the vCPU is halted");
	has(err, "vCPU 0 has not done the instruction at 0xffffffff81000001 in", "it says so");
	has(out, "1 step of vCPU 0, ", "and what was done");

	fake = (struct fake){ .vcpus = 2, .stopped = 2 };
	is_number(kvmi_run(&fake, "step -c 1 -t 0.1"), 9, "the vCPU is stopped");
	is_string(err, "kvmi: vCPU 1 does not run: its VMM has stopped it\n", "it says so");
	is_number(kvmi_run(&fake, "step -c 2"), 2, "there is no such vCPU");
	fake = (struct fake){ .vcpus = 1, .no_singlestep = true };
	is_number(kvmi_run(&fake, "step"), 6, "a kernel that cannot");
	is_string(err, "kvmi: this kernel cannot single-step\n", "it says so");
	fake = (struct fake){ .vcpus = 1, .denied = KVMI_VCPU_CONTROL_SINGLESTEP };
	is_number(kvmi_run(&fake, "step"), 10, "it is not allowed");
	has(err, "control-singlestep of vCPU 0: the VMM does not allow it\n", "it says so");
	fake = (struct fake){ .vcpus = 1, .denied = KVMI_VCPU_TRANSLATE_GVA };
	is_number(kvmi_run(&fake, "step"), 10, "nor is looking at the instruction");
	fake = (struct fake){ .vcpus = 1, .close_after = 12 };
	is_number(kvmi_run(&fake, "step -n 0"), 3, "the VM goes away");
	has(err, "the VM is gone", "it says so");
}

static void test_translate(void)
{
	struct fake fake = { .vcpus = 2 };

	is_number(kvmi_run(&fake, "translate 0xffffffff81000123"), 0, "translate");
	is_string(out, "0x206123\n", "the address");
	is_number(kvmi_run(&fake, "translate -c 1 0xffffffff81001fff"), 0, "by another vCPU");
	is_string(out, "0x208fff\n", "the address");
	is_number(kvmi_run(&fake, "translate 0xffffffff81002000"), 1, "not mapped");
	is_string(out, "", "no address");
	is_string(err, "kvmi: vCPU 0 does not map 0xffffffff81002000\n", "it says so");
	is_number(kvmi_run(&fake, "translate --json 0xffffffff81000123"), 0, "for machines");
	is_string(out, "{\"vcpu\":0,\"gva\":\"0xffffffff81000123\",\"gpa\":\"0x206123\"}\n",
		  "the address");
	is_number(kvmi_run(&fake, "translate --json -c 1 5"), 1, "not mapped, for machines");
	is_string(out, "{\"vcpu\":1,\"gva\":\"0x5\",\"gpa\":null}\n", "no address");
	is_number(kvmi_run(&fake, "translate -c 2 0"), 2, "there is no such vCPU");
	fake.not_started = 2;
	is_number(kvmi_run(&fake, "translate -c 1 0"), 10, "a vCPU that was not started");
	has(err, "vCPU 1 was not started yet", "it says so");
	fake = (struct fake){ .vcpus = 1, .stopped = 1 };
	is_number(kvmi_run(&fake, "translate -t 0.1 0"), 9, "a vCPU that does not run");
	fake = (struct fake){ .vcpus = 1, .denied = KVMI_VCPU_TRANSLATE_GVA };
	is_number(kvmi_run(&fake, "translate 0"), 10, "not allowed");
	has(err, "translate-gva of vCPU 0: the VMM does not allow it", "it says so");
}

static void test_hold(void)
{
	struct fake fake = { .vcpus = 2 };
	struct run run;

	is_number(kvmi_run(&fake, "pause --seconds 0.2"), 0, "pause for some time");
	is_string(out, "paused\nrunning\n", "it says when");
	is_number(kvmi_run(&fake, "pause --json --seconds 0.1"), 0, "pause --json");
	ok(all_json(out), "a value a line");
	is_number(kvmi_run(&fake, "pause --daemon"), 10, "no daemon without a PID");

	run = kvmi_start(&fake, "pause");
	usleep(200000);
	kill(run.pid, SIGTERM);
	is_number(kvmi_finish(&run), 0, "a signal ends it");
	is_string(out, "paused\nrunning\n", "it says when");

	fake.close_after = 5;
	is_number(kvmi_run(&fake, "pause"), 3, "the VM goes away");
	is_string(out, "paused\n", "while it is paused");
	fake = (struct fake){ .vcpus = 2, .denied = KVMI_VM_PAUSE_VCPU };
	is_number(kvmi_run(&fake, "pause"), 10, "pausing is not allowed");
	is_string(out, "", "so it is not paused");
	is_number(kvmi_run(&fake, "resume"), 2, "resume needs a VM");
}

void test_tool(const char *path)
{
	kvmi = path;

	test_usage();
	test_info();
	test_regs();
	test_dump();
	test_find();
	test_trace();
	test_trace_registers();
	test_trace_lacks();
	test_guard();
	test_step();
	test_translate();
	test_hold();
	test_protect();
}
