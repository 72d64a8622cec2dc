// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi protect
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest-kernel.h"
#include "watch.h"

#define GP	13
#define PF	14

/* Error code of a page fault */
#define PF_PRESENT	0x1
#define PF_WRITE	0x2
#define PF_USER		0x4
#define PF_FETCH	0x10

#define EVERYTHING	(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)

static const __u8 allowed[KERNEL_SECTIONS] = {
	[KERNEL_TEXT] = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X,
	[KERNEL_RODATA] = KVMI_PAGE_ACCESS_R,
	[KERNEL_DATA] = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W,
};

static const char * const allowed_text[KERNEL_SECTIONS] = { "r-x", "r--", "rw-" };

/**
 * struct protect - a kernel that is protected
 * @watch: the vCPUs
 * @symbols: of the kernel, empty: none
 * @kernel: the kernel
 * @pages: all of its pages
 * @nr_pages: how many
 * @attempts: how many, by section
 * @held: those that are to be tried again
 * @shown: there is a line with counters on the terminal
 */
struct protect {
	struct watch watch;
	struct symbols symbols;
	struct guest_kernel kernel;
	struct kvmi_page_access_entry *pages;
	size_t nr_pages;
	unsigned long long attempts[KERNEL_SECTIONS];
	unsigned long long held;
	bool shown;
};

static const struct kernel_range *range_of(const struct protect *protect, __u64 gpa)
{
	size_t i;

	for (i = 0; i < protect->kernel.nr; i++)
		if (gpa - protect->kernel.ranges[i].gpa < protect->kernel.ranges[i].size)
			return &protect->kernel.ranges[i];
	return NULL;
}

/* Returns false if there is no memory for it. */
static bool list_pages(struct protect *protect)
{
	struct kvmi_page_access_entry *page;
	__u64 at, size = 0;
	size_t i;

	for (i = 0; i < protect->kernel.nr; i++)
		size += protect->kernel.ranges[i].size;
	protect->nr_pages = size / KVMI_GUEST_PAGE;
	protect->pages = calloc(protect->nr_pages, sizeof(*protect->pages));
	if (!protect->pages)
		return false;

	page = protect->pages;
	for (i = 0; i < protect->kernel.nr; i++) {
		const struct kernel_range *range = &protect->kernel.ranges[i];

		for (at = 0; at < range->size; at += KVMI_GUEST_PAGE, page++) {
			page->gpa = range->gpa + at;
			page->access = allowed[range->section];
		}
	}
	return true;
}

/* What the guest may do again, in the end; a lost connection does the same. */
static int allow_everything(struct protect *protect)
{
	size_t i;

	for (i = 0; i < protect->nr_pages; i++)
		protect->pages[i].access = EVERYTHING;
	return kvmi_set_page_access(protect->watch.tool->conn, protect->pages,
				    protect->nr_pages);
}

static void json_kernel(struct json *out, const struct protect *protect)
{
	const struct guest_kernel *kernel = &protect->kernel;
	size_t i;

	json_object(out, NULL);
	json_object(out, "kernel");
	json_string(out, "version", kernel->version);
	json_hex(out, "lstar", kernel->lstar);
	json_hex(out, "cr3", kernel->cr3);
	json_number(out, "pages", protect->nr_pages);
	json_array(out, "ranges");
	for (i = 0; i < kernel->nr; i++) {
		const struct kernel_range *range = &kernel->ranges[i];

		json_object(out, NULL);
		json_string(out, "section", section_name(range->section));
		json_hex(out, "gva", range->gva);
		json_hex(out, "gpa", range->gpa);
		json_number(out, "size", range->size);
		json_string(out, "access", allowed_text[range->section]);
		json_end(out);
	}
	json_end(out);
	json_end(out);
	json_end(out);
}

static void print_kernel(const struct protect *protect)
{
	const struct guest_kernel *kernel = &protect->kernel;
	size_t i;

	if (protect->watch.tool->json) {
		json_kernel(&protect->watch.tool->out, protect);
		return;
	}
	printf("%s\n", kernel->version);
	for (i = 0; i < kernel->nr; i++) {
		const struct kernel_range *range = &kernel->ranges[i];

		printf("%-7s %016llx-%016llx  gpa %llx  %s\n", section_name(range->section),
		       range->gva, range->gva + range->size, range->gpa,
		       allowed_text[range->section]);
	}
	fflush(stdout);
}

static unsigned long long total(const struct protect *protect)
{
	unsigned long long sum = 0;
	int i;

	for (i = 0; i < KERNEL_SECTIONS; i++)
		sum += protect->attempts[i];
	return sum;
}

static void hide_counters(struct protect *protect)
{
	if (protect->shown)
		fprintf(stderr, "\r\033[K");
	protect->shown = false;
}

static void show_counters(struct protect *protect)
{
	unsigned long long sum = total(protect);
	int i;

	if (protect->watch.tool->json || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%llu attempt%s:", sum, sum == 1 ? "" : "s");
	for (i = 0; i < KERNEL_SECTIONS; i++)
		fprintf(stderr, " %s %llu", section_name(i), protect->attempts[i]);
	fprintf(stderr, "\033[K");
	protect->shown = true;
}

/* The page may have aliases: what is written is where it is in the image. */
static void print_attempt(struct protect *protect, const struct kvmi_event *event,
			  const struct kernel_range *range, double time, const char *verdict)
{
	char target[SYMBOL_NAME], from[SYMBOL_NAME];
	struct event_note notes[4] = { { "section", section_name(range->section) } };
	unsigned int n = 1;

	notes[n].value = symbols_text(&protect->symbols, event->pf.gpa + protect->kernel.offset,
				      target);
	if (notes[n].value)
		notes[n++].key = "target";
	notes[n].value = symbols_text(&protect->symbols, event->arch.regs.rip, from);
	if (notes[n].value)
		notes[n++].key = "from";
	notes[n].key = NULL;

	hide_counters(protect);
	print_event(protect->watch.tool, event, time, notes, verdict);
	show_counters(protect);
}

/* As the processor would say it */
static __u32 error_code(const struct kvmi_event *event)
{
	__u32 code = PF_PRESENT;

	if (event->pf.access & KVMI_PAGE_ACCESS_W)
		code |= PF_WRITE;
	if (event->pf.access & KVMI_PAGE_ACCESS_X)
		code |= PF_FETCH;
	if (privilege_level(&event->arch) == 3)
		code |= PF_USER;
	return code;
}

/*
 * The instruction gets an exception, and has no effect. If there cannot be one
 * now (-EBUSY), it is executed again, and comes back here. A vCPU that has left
 * KVM_RUN (-ETIMEDOUT) gets the exception when it is back.
 */
static int block(struct protect *protect, const struct kvmi_event *event, bool *held)
{
	struct tool *tool = protect->watch.tool;
	int r, r2;

	/* Without an address there is no page fault. */
	if (tool->fault == PF && event->pf.gva != KVMI_UNMAPPED)
		r = kvmi_inject_exception(tool->conn, event->vcpu, PF, error_code(event),
					  event->pf.gva);
	else
		r = kvmi_inject_exception(tool->conn, event->vcpu, GP, 0, 0);
	*held = r == -EBUSY;
	if (r == -EBUSY || r == -ETIMEDOUT)
		r = 0;

	/* Whatever has failed, it must not happen. */
	r2 = kvmi_reply_event(tool->conn, event, KVMI_EVENT_ACTION_RETRY, NULL, 0);
	return r ?: r2;
}

/* The guest waits: answer first. */
static int handle(void *arg, const struct kvmi_event *event)
{
	struct protect *protect = arg;
	struct tool *tool = protect->watch.tool;
	const struct kernel_range *range;
	const char *verdict = "logged";
	bool held = false;
	double time;
	int r;

	if (event->id != KVMI_VCPU_EVENT_PF)
		return kvmi_continue_event(tool->conn, event);
	range = range_of(protect, event->pf.gpa);
	/* Not what was asked for */
	if (!range)
		return kvmi_continue_event(tool->conn, event);

	if (tool->log) {
		r = kvmi_continue_event(tool->conn, event);
	} else {
		r = block(protect, event, &held);
		verdict = held ? "held" : "blocked";
	}
	time = now() - protect->watch.begin;
	/* Tried again and again: once is enough for the reader. */
	if (held && protect->held++)
		return r;

	protect->watch.events++;
	protect->attempts[range->section]++;
	print_attempt(protect, event, range, time, verdict);

	return r;
}

static void summary(struct protect *protect)
{
	struct tool *tool = protect->watch.tool;
	double seconds = now() - protect->watch.begin;
	unsigned long long sum = total(protect);
	struct json *out = &tool->out;
	int i;

	hide_counters(protect);
	if (tool->json) {
		json_object(out, NULL);
		json_object(out, "summary");
		json_double(out, "seconds", seconds);
		json_number(out, "attempts", sum);
		for (i = 0; i < KERNEL_SECTIONS; i++)
			json_number(out, section_name(i), protect->attempts[i]);
		json_number(out, "held", protect->held);
		json_end(out);
		json_end(out);
		return;
	}
	printf("%llu attempt%s in %.1f s:", sum, sum == 1 ? "" : "s", seconds);
	for (i = 0; i < KERNEL_SECTIONS; i++)
		printf(" %s %llu", section_name(i), protect->attempts[i]);
	if (protect->held)
		printf(", held %llu times", protect->held);
	putchar('\n');
	fflush(stdout);
}

/* Can this kernel do it? That the VMM does not allow it shows later. */
static int check_kernel(struct tool *tool)
{
	int r = kvmi_check_command(tool->conn, KVMI_VM_SET_PAGE_ACCESS);

	if (r == -ENOENT)
		return fail(tool, STATUS_NO_SUPPORT,
			    "this kernel cannot restrict a guest's access to its memory");
	if (r && r != -EPERM)
		return fail_conn(tool);
	r = check_event(tool, KVMI_VCPU_EVENT_PF);
	if (r || tool->log)
		return r;

	/* Not when the first attempt is there. */
	r = kvmi_check_command(tool->conn, KVMI_VCPU_INJECT_EXCEPTION);
	if (!r)
		r = kvmi_check_event(tool->conn, KVMI_VCPU_EVENT_TRAP);
	if (r == -ENOENT || r == -EPERM)
		return fail(tool, r == -EPERM ? STATUS_FAILED : STATUS_NO_SUPPORT,
			    "exceptions cannot be raised in the guest: there is only --log");
	return r ? fail_conn(tool) : 0;
}

static int check_options(struct tool *tool)
{
	if (tool->log && (tool->block || tool->fault))
		return fail(tool, STATUS_USAGE, "with --log nothing is blocked");
	if (!tool->fault)
		tool->fault = GP;
	return 0;
}

/* Find the kernel, the VM standing still. 0, or the exit code after having said why */
static int prepare(struct protect *protect)
{
	struct tool *tool = protect->watch.tool;
	int r = check_options(tool);

	if (!r && tool->symbols)
		r = symbols_load(tool, tool->symbols, &protect->symbols);
	if (!r)
		r = connect_vm(tool);
	if (!r && !tool->dry_run)
		r = check_kernel(tool);
	if (!r)
		r = catch_signals(tool);
	if (!r)
		r = pause_vm(tool, -1);
	if (!r)
		r = find_guest_kernel(tool, &protect->symbols, &protect->kernel);
	if (!r && !list_pages(protect))
		r = fail(tool, STATUS_FAILED, "out of memory");

	return r;
}

/* From the moment that it goes on the guest is protected. Like the rest of the watch */
static int begin(struct protect *protect)
{
	struct kvmi_conn *conn = protect->watch.tool->conn;
	int r;

	watch_add(&protect->watch, WATCH_EVENT, KVMI_VCPU_EVENT_PF);
	r = watch_begin(&protect->watch);
	if (!r)
		r = kvmi_set_page_access(conn, protect->pages, protect->nr_pages);
	if (!r)
		r = kvmi_resume(conn);
	kvmi_leave_pauses(conn);
	return r;
}

static int end(struct protect *protect)
{
	struct kvmi_conn *conn = protect->watch.tool->conn;
	int r;

	kvmi_set_interrupt(conn, -1);
	r = allow_everything(protect);
	/* ^C came while it was still paused: the connection ends, and with it the pause. */
	return r ?: watch_end(&protect->watch);
}

static int protect_vm(struct protect *protect)
{
	struct tool *tool = protect->watch.tool;
	int r = begin(protect);

	/* What is not protected is not to look as if it was. */
	if (r && r != -EINTR)
		return fail_conn(tool);

	print_kernel(protect);
	if (!r) {
		if (!tool->json)
			note("%zu pages protected, %s, ^C ends", protect->nr_pages,
			     tool->log ? "attempts are logged" : "attempts are blocked");
		show_counters(protect);
		r = watch_loop(&protect->watch);
	}
	if (!r || r == -EINTR)
		r = end(protect);

	summary(protect);
	return r ? fail_conn(tool) : STATUS_OK;
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct protect protect = {
		.watch = { .tool = tool, .handle = handle, .arg = &protect, .strict = true },
	};
	int r;

	(void)argc;
	(void)argv;

	r = prepare(&protect);
	if (!r && tool->dry_run)
		print_kernel(&protect);
	else if (!r)
		r = protect_vm(&protect);

	free(protect.watch.states);
	free(protect.pages);
	free_guest_kernel(&protect.kernel);
	symbols_free(&protect.symbols);
	return r;
}

const struct command command_protect = {
	.name = "protect",
	.operands = "",
	.vm = true,
	.options = "bLFyNnSD",
	.brief = "keep the guest's Linux kernel from being changed",
	.help =
	"Finds the kernel in the guest's memory, and lets nobody in the guest write its\n"
	"text and its read-only data, nor execute the latter, whatever the guest's page\n"
	"tables say. With --symbols its data cannot be executed. One line an attempt: the\n"
	"instruction (rip) and the address space (cr3) that it comes from, the virtual\n"
	"(gva) and physical (gpa) address, whether it wanted to write (w) or execute (x),\n"
	"the section, and with --symbols what is there and what rip is in.\n"
	"The write does not happen: the instruction gets a general protection fault, or a\n"
	"page fault (--fault pf), after which Linux may try again for ever if its own page\n"
	"tables allow the write. With --log it happens, and is only reported. 'held' is\n"
	"one that is tried again and again, until there can be an exception.\n"
	"Protects until ^C, --count attempts or --seconds, or the end of the VM; then come\n"
	"the numbers. From then on the guest can write again, and also when kvmi is killed.\n"
	"With --deadline, what kvmi does not answer in time happens, too.\n"
	"Linux patches its own text now and then: tracing, probes, BPF, static keys that are\n"
	"switched. These are attempts like any other, and what follows from blocking them is\n"
	"an oops: look with --log first. Modules, and what VMM and devices write, are not\n"
	"protected. A guest cannot reboot or start another kernel (kexec) meanwhile: that\n"
	"writes where the kernel was. The kernel must have booted, unless there are symbols,\n"
	"and must be a 64-bit one. How it is found: LSTAR tells where text is; what the page\n"
	"tables map in one piece with it, and make executable and not writable, is text; what\n"
	"is neither executable nor writable, and not writable in the direct map of memory, is\n"
	"read-only data, and has the words 'Linux version'. --dry-run shows it, and changes\n"
	"nothing.\n",
	.run = run,
};
