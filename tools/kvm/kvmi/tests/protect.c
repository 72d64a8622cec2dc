// SPDX-License-Identifier: GPL-2.0
/*
 * Tests: kvmi protect, with the kernel of the fake guest.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

#define IMAGE(at)	(FAKE_KERNEL + (at))
#define IMAGE_GPA(at)	(FAKE_KERNEL_GPA + (at))
#define WRITES		KVMI_PAGE_ACCESS_W
#define EXECUTES	KVMI_PAGE_ACCESS_X

static char map_path[32] = "/tmp/kvmi-map-XXXXXX";

/* A System.map; @skip: a symbol that it lacks */
static void write_map(const char *skip)
{
	static const struct {
		__u64 at;
		const char *name;
	} symbols[] = {
		{ 0, "T _text" }, { 0x1000, "t local_function" }, { 0x1000, "T a_function" },
		{ 0x1100, "T next_function" }, { KERNEL_ENTRY, "T entry_SYSCALL_64" },
		{ KERNEL_TEXT_END - 0xabc, "T _etext" },
		{ KERNEL_RODATA_AT, "R __start_rodata" },
		{ KERNEL_RODATA_AT + 0x3ff8, "R linux_banner" },
		{ KERNEL_RODATA_END, "R __end_rodata" }, { KERNEL_DATA_AT, "D _sdata" },
		{ KERNEL_DATA_AT + 0x100, "D some_data" }, { KERNEL_DATA_END - 1, "D _edata" },
	};
	FILE *file = fopen(map_path, "w");
	size_t i;

	fputs("0000000000000000 D __per_cpu_start\nnonsense\n", file);
	for (i = 0; i < ARRAY_SIZE(symbols); i++)
		if (!skip || strcmp(symbols[i].name + 2, skip))
			fprintf(file, "%016llx %s\n", IMAGE(symbols[i].at), symbols[i].name);
	fclose(file);
}

static int run_with_map(const struct fake *fake, const char *args)
{
	char line[200];

	snprintf(line, sizeof(line), "protect --symbols %s %s", map_path, args);
	return kvmi_run(fake, line);
}

#define TEXT_LINE(a, b)   "text    ffffffff" a "-ffffffff" b "  gpa 4000000  r-x\n"
#define RODATA_LINE(a, b) "rodata  ffffffff" a "-ffffffff" b "  gpa 4400000  r--\n"
#define IDT_LINE(a, b)    "rodata  ffffffff" a "-ffffffff" b "  gpa 4900000  r--\n"
#define DATA_LINE(a, b)   "data    ffffffff" a "-ffffffff" b "  gpa 4600000  rw-\n"
#define VERSION_LINE      "Linux version 7.3.0-fake (x@y) #1 SMP\n"

static const char found[] =
	VERSION_LINE TEXT_LINE("81000000", "812ba000") RODATA_LINE("81400000", "81533000")
	IDT_LINE("81900000", "81901000");
static const char found_by_symbols[] =
	VERSION_LINE TEXT_LINE("81000000", "812ba000") RODATA_LINE("81400000", "81533000")
	DATA_LINE("81600000", "81700000");
static const char found_moved[] =
	VERSION_LINE TEXT_LINE("9fe00000", "a00ba000") RODATA_LINE("a0200000", "a0333000")
	IDT_LINE("a0700000", "a0701000");

/* Every way that a guest may have its page tables */
static void test_find_kernel(void)
{
	static const struct {
		const char *name;
		struct fake_kernel kernel;
	} cases[] = {
		{ "4 levels", { .levels = 4 } },
		{ "5 levels", { .levels = 5 } },
		{ "4 levels, small pages", { .levels = 4, .small = true } },
		{ "5 levels, small pages", { .levels = 5, .small = true } },
		{ "the tables of user space", { .levels = 4, .user_half = true } },
		{ "5 levels, those of user space", { .levels = 5, .user_half = true } },
		{ "a CR3 that looks like those", { .levels = 4, .odd_cr3 = true } },
		{ "vCPU 0 is not that far", { .levels = 4, .early = 1 } },
	};
	struct fake_kernel moved = { .levels = 4, .slide = 0x1ee00000 };
	struct fake fake = { .vcpus = 2 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		fake.kernel = &cases[i].kernel;
		is_number(kvmi_run(&fake, "protect --dry-run"), 0, cases[i].name);
		is_string(out, found, "the kernel");
		is_number(run_with_map(&fake, "--dry-run"), 0, "the same with symbols");
		is_string(out, found_by_symbols, "the kernel");
	}

	/* By a multiple of a large page */
	fake.kernel = &moved;
	is_number(kvmi_run(&fake, "protect --dry-run"), 0, "KASLR");
	is_string(out, found_moved, "the kernel");
	is_number(run_with_map(&fake, "--dry-run"), 0, "KASLR with symbols");
	has(out, TEXT_LINE("9fe00000", "a00ba000"), "the kernel");

	/* One vCPU that does not run is no matter. */
	fake = (struct fake){ .vcpus = 2, .stopped = 1, .kernel = &cases[0].kernel };
	is_number(kvmi_run(&fake, "protect --dry-run -t 0.1"), 0, "vCPU 0 does not run");
	is_string(out, found, "the kernel");
	fake = (struct fake){ .vcpus = 2, .not_started = 2, .kernel = &cases[0].kernel };
	is_number(kvmi_run(&fake, "protect --dry-run --json"), 0, "for machines");
	ok(is_json(out, "\n"), "is JSON");
	has(out,
	    "{\"kernel\":{\"version\":\"Linux version 7.3.0-fake (x@y) #1 SMP\",\"lstar\":\"0xffffffff81201080\",\"cr3\":\"0x8000005\",\"pages\":1006,\"ranges\":[{\"section\":\"text\",\"gva\":\"0xffffffff81000000\",\"gpa\":\"0x4000000\",\"size\":2859008,\"access\":\"r-x\"},",
	    "the kernel");
}

static void test_no_kernel(void)
{
	static const struct {
		struct fake_kernel kernel;
		unsigned int stopped;
		const char *why;
	} cases[] = {
		{ { .levels = 4 }, 3, "no vCPU runs" },
		{ { .levels = 4, .mode = true }, 0, "no vCPU is in 64-bit mode" },
		{ { .levels = 4, .early = 3 }, 0, "it has not set LSTAR" },
		{ { .levels = 4, .elsewhere = true }, 0, "do not enter where Linux has its" },
		{ { .levels = 4, .unmapped = true }, 0, "do not map the entry of system calls" },
		{ { .levels = 5, .writable = true }, 0, "has not made its own text read-only" },
		{ { .levels = 4, .aliased = true }, 0, "has not made its own text read-only" },
		{ { .levels = 4, .no_direct = true }, 0, "direct map of memory was not found" },
		{ { .levels = 4, .no_banner = true }, 0, "does not have the words 'Linux " },
	};
	struct fake fake = { .vcpus = 2 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		fake.kernel = &cases[i].kernel;
		fake.stopped = cases[i].stopped;
		is_number(kvmi_run(&fake, "protect -t 0.1"), 1, "there is no kernel to be found");
		has(err, cases[i].why, "it says why");
		is_string(out, "", "and nothing else");
	}
	is_number(kvmi_run(&fake, "protect --json"), 1, "for machines");
	has(out, "{\"error\":{\"code\":1,\"name\":\"nothing\",", "as a code");

	/* With symbols it takes less. */
	fake.kernel = &cases[5].kernel;
	is_number(run_with_map(&fake, "--dry-run"), 0, "writable text, but symbols");
	is_string(out, found_by_symbols, "the kernel");
	fake.kernel = &cases[7].kernel;
	is_number(run_with_map(&fake, "--dry-run"), 0, "no direct map, but symbols");
	is_string(out, found_by_symbols, "the kernel");
}

static void test_symbol_files(void)
{
	struct fake_kernel kernel = { .levels = 4 };
	struct fake fake = { .vcpus = 1, .kernel = &kernel };

	write_map("_etext");
	is_number(run_with_map(&fake, ""), 2, "a map that lacks something");
	has(err, " has no symbol _etext\n", "it says what");
	write_map("entry_SYSCALL_64");
	is_number(run_with_map(&fake, ""), 2, "a map without the entry of system calls");
	write_map(NULL);
	kernel.slide = 0x123000;
	is_number(run_with_map(&fake, ""), 1, "the map of another kernel");
	has(err, "the symbols are those of another kernel: entry_SYSCALL_64", "it says why");
	kernel = (struct fake_kernel){ .levels = 4, .no_banner = true };
	is_number(run_with_map(&fake, ""), 1, "another map, by its banner");
	has(err, "it has no linux_banner where they say", "it says why");
	is_number(kvmi_run(&fake, "protect --symbols /dev/null"), 2, "an empty one");
	has(err, "/dev/null has no symbols of a 64-bit kernel", "it says so");
}

/* Writes to text by its own address and by an alias that nobody knows, to the rest */
static const struct fake_guest attack = {
	.events = 1 << KVMI_VCPU_EVENT_PF,
	.does = {
		{ .id = KVMI_VCPU_EVENT_PF, .payload_size = 24,
		  .pf = { IMAGE(0x1010), IMAGE_GPA(0x1010), .access = WRITES } },
		{ .id = KVMI_VCPU_EVENT_PF, .payload_size = 24,
		  .pf = { KVMI_UNMAPPED, IMAGE_GPA(0x1100), .access = WRITES } },
		{ .id = KVMI_VCPU_EVENT_PF, .payload_size = 24,
		  .pf = { 0x7000, IMAGE_GPA(KERNEL_RODATA_END - 8), .access = EXECUTES } },
	},
	.actions = { 1, 1, 1 },
	.injects = { { .nr = 13 }, { .nr = 13 }, { .nr = 13 } },
	.nr = 3,
};

static void test_block(void)
{
	struct fake_kernel kernel = { .levels = 4 };
	struct fake fake = { .vcpus = 3, .guest = &attack, .kernel = &kernel };
	struct fake_guest guest = attack;
	struct run run;

	run = kvmi_start(&fake, "protect");
	usleep(700000);
	kill(run.pid, SIGINT);
	is_number(kvmi_finish(&run), 0, "^C ends a protection");
	has(err, "1006 pages protected, attempts are blocked, ^C ends", "it says what it does");
	ok(!strncmp(out, found, strlen(found)), "and what that is");
	has(out,
	    "  pf          vcpu 0  rip 0000000000401004  cr3 0000000001234000  cpl 3  gva ffffffff81001010  gpa 4001010  access w  section text  blocked\n",
	    "an attempt");
	has(out, "  gva unknown  gpa 4001100  access w  section text  blocked\n",
	    "one by an address that is not known");
	has(out, "  gva 7000  gpa 4532ff8  access x  section rodata  blocked\n", "and to execute");
	has(out, "\n3 attempts in ", "the numbers");
	has(out, " s: text 2 rodata 1 data 0\n", "by section");

	fake.slow = true;
	is_number(kvmi_run(&fake, "protect --block --json -n 3"), 0, "protect --json");
	fake.slow = false;
	ok(all_json(out), "a value a line");
	has(out,
	    "\"gva\":\"0xffffffff81001010\",\"gpa\":\"0x4001010\",\"access\":\"w\",\"section\":\"text\",\"verdict\":\"blocked\"}\n",
	    "an attempt");
	has(out, "\"gva\":null,\"gpa\":\"0x4001100\",", "without address");
	has(out, "\"attempts\":3,\"text\":2,\"rodata\":1,\"data\":0,\"held\":0}}\n", "the numbers");

	/* A page fault as the processor would raise it; without address it cannot be one. */
	guest.injects[0] = (struct kvmi_vcpu_inject_exception){
		.nr = 14, .error_code = 7, .address = IMAGE(0x1010),
	};
	guest.injects[2] = (struct kvmi_vcpu_inject_exception){
		.nr = 14, .error_code = 0x15, .address = 0x7000,
	};
	fake.guest = &guest;
	is_number(kvmi_run(&fake, "protect --fault pf -n 3"), 0, "page faults");
	is_number(count_lines(out, "  blocked\n"), 3, "three attempts");
	is_number(kvmi_run(&fake, "protect --fault gp -n 3"), -1, "the fake sees what is not");

	/* The first is raised again until it can be answered. */
	guest = (struct fake_guest){
		.events = attack.events,
		.does = { attack.does[0], attack.does[0], attack.does[0] },
		.actions = { 1, 1, 1 },
		.injects = { { .nr = 13 }, { .nr = 13 }, { .nr = 13 } },
		.busy = 3,
		.nr = 3,
	};
	is_number(kvmi_run(&fake, "protect -n 2"), 0, "there cannot be an exception");
	is_number(count_lines(out, "  section text  held\n"), 1, "it is told once");
	is_number(count_lines(out, "  section text  blocked\n"), 1, "until there can");
	has(out, "\n2 attempts in ", "the numbers");
	has(out, ": text 2 rodata 0 data 0, held 2 times\n", "with those that were held");
}

static void test_log(void)
{
	struct fake_kernel kernel = { .levels = 5, .slide = 0x200000, .symbols = true };
	struct fake_guest guest = {
		.events = 1 << KVMI_VCPU_EVENT_PF,
		.does = {
			{ .id = KVMI_VCPU_EVENT_PF, .payload_size = 24,
			  .pf = { 0x1000, IMAGE_GPA(0x10ff), .access = WRITES } },
			{ .id = KVMI_VCPU_EVENT_PF, .payload_size = 24,
			  .pf = { IMAGE(KERNEL_DATA_AT), IMAGE_GPA(KERNEL_DATA_AT + 0x104),
				  .access = EXECUTES } },
		},
		.nr = 2,
	};
	struct fake fake = { .vcpus = 2, .guest = &guest, .kernel = &kernel };

	is_number(run_with_map(&fake, "--log -n 2"), 0, "protect --log");
	has(err, "1261 pages protected, attempts are logged, ^C ends", "it says what it does");
	has(out, "  access w  section text  target a_function+0xff  logged\n",
	    "what was written, by whatever address");
	has(out, "  access x  section data  target some_data+0x4  logged\n", "and executed");
	has(out, " s: text 1 rodata 0 data 1\n", "the numbers");
	is_number(run_with_map(&fake, "--log -n 2 --json"), 0, "for machines");
	ok(all_json(out), "a value a line");
	has(out, "\"section\":\"data\",\"target\":\"some_data+0x4\",\"verdict\":\"logged\"}\n",
	    "an attempt");
	is_number(run_with_map(&fake, "--block -n 2"), -1, "the fake sees another answer");
}

static void test_cannot(void)
{
	struct fake_kernel kernel = { .levels = 4 };
	struct fake fake = { .vcpus = 1 };

	is_number(kvmi_run(&fake, "protect"), 6, "a kernel that cannot");
	has(err, "this kernel cannot restrict a guest's access to its memory\n", "it says so");
	fake = (struct fake){
		.vcpus = 1, .kernel = &kernel, .unknown = 1 << KVMI_VCPU_EVENT_PF,
	};
	is_number(kvmi_run(&fake, "protect"), 6, "one without the event");
	fake.unknown = 1 << KVMI_VCPU_EVENT_TRAP;
	is_number(kvmi_run(&fake, "protect"), 6, "one without exceptions");
	has(err, "exceptions cannot be raised in the guest: there is only --log\n", "it says so");
	is_number(kvmi_run(&fake, "protect --log --seconds 0.1"), 0, "which it takes for --log");
	fake = (struct fake){
		.vcpus = 1, .kernel = &kernel, .denied = KVMI_VM_SET_PAGE_ACCESS,
	};
	is_number(kvmi_run(&fake, "protect"), 10, "it is not allowed");
	is_string(err, "kvmi: set-page-access: the VMM does not allow it\n", "it says so");
	is_string(out, "", "nothing looks as if it was protected");
	fake.denied = KVMI_VCPU_CONTROL_EVENTS;
	is_number(kvmi_run(&fake, "protect"), 10, "nor is the event");
	fake = (struct fake){ .vcpus = 1, .kernel = &kernel };
	is_number(kvmi_run(&fake, "protect --seconds 0.2"), 0, "protect for some time");
	has(out, " s: text 0 rodata 0 data 0\n", "no attempt");
	fake = (struct fake){ .vcpus = 2, .stopped = 2, .late = true, .kernel = &kernel };
	is_number(kvmi_run(&fake, "protect --seconds 0.5 -t 0.1"), 0, "a vCPU pauses late");
	is_number(count_lines(err, "vCPU 1 does not run"), 1, "it says that it did not run");
	fake = (struct fake){ .vcpus = 1, .kernel = &kernel };
	fake.close_after = 12;
	is_number(kvmi_run(&fake, "protect"), 3, "the VM goes away");
	has(err, "the VM is gone", "it says so");
}

void test_protect(void)
{
	int fd = mkstemp(map_path);

	if (fd < 0)
		exit(2);
	close(fd);
	write_map(NULL);
	test_find_kernel();
	test_no_kernel();
	test_symbol_files();
	test_block();
	test_log();
	test_cannot();
	unlink(map_path);
}
