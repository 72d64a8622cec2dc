// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi msr-guard
 */
#include <errno.h>
#include <stdlib.h>

#include "watch.h"

#define MAX_MSRS	64

struct guard {
	struct watch watch;
	unsigned int nr;
	struct {
		__u32 msr;
		unsigned long long attempts;
	} msrs[MAX_MSRS];
};

static void count(struct guard *guard, __u32 msr)
{
	unsigned int i;

	for (i = 0; i < guard->nr; i++)
		if (guard->msrs[i].msr == msr)
			guard->msrs[i].attempts++;
}

static int parse_msrs(struct guard *guard, int argc, char **argv)
{
	unsigned int nr;
	__u32 msr;
	int i, r;

	for (i = 0; i < argc; i++) {
		r = parse_msr(guard->watch.tool, argv[i], &msr);
		if (r)
			return r;
		/* One that was named before is not new to the watch. */
		nr = guard->watch.nr_items;
		watch_add(&guard->watch, WATCH_MSR, msr);
		if (guard->watch.nr_items > nr)
			guard->msrs[guard->nr++].msr = msr;
	}
	watch_add(&guard->watch, WATCH_EVENT, KVMI_VCPU_EVENT_MSR);
	return 0;
}

/* The guest waits: answer first. */
static int handle(void *arg, const struct kvmi_event *event)
{
	struct guard *guard = arg;
	struct tool *tool = guard->watch.tool;
	double time;
	int r;

	if (event->id != KVMI_VCPU_EVENT_MSR)
		return kvmi_continue_event(tool->conn, event);

	r = kvmi_deny_event(tool->conn, event);
	time = now() - guard->watch.begin;
	guard->watch.events++;
	count(guard, event->msr.msr);
	print_event(tool, event, time, NULL, "denied");

	return r;
}

static void summary(const struct guard *guard)
{
	struct json *out = &guard->watch.tool->out;
	double seconds = now() - guard->watch.begin;
	long long events = guard->watch.events;
	char buf[MSR_NAME];
	unsigned int i;

	if (guard->watch.tool->json) {
		json_object(out, NULL);
		json_object(out, "summary");
		json_double(out, "seconds", seconds);
		json_number(out, "attempts", events);
		for (i = 0; i < guard->nr; i++)
			json_number(out, msr_text(guard->msrs[i].msr, buf),
				    guard->msrs[i].attempts);
		json_end(out);
		json_end(out);
		return;
	}

	printf("%lld attempt%s in %.1f s:", events, events == 1 ? "" : "s", seconds);
	for (i = 0; i < guard->nr; i++)
		printf(" %s %llu", msr_text(guard->msrs[i].msr, buf), guard->msrs[i].attempts);
	putchar('\n');
	fflush(stdout);
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct guard guard = {
		.watch = { .tool = tool, .handle = handle, .arg = &guard, .strict = true },
	};
	int r;

	r = parse_msrs(&guard, argc, argv);
	if (!r)
		r = connect_vm(tool);
	if (!r)
		r = check_event(tool, KVMI_VCPU_EVENT_MSR);
	if (!r)
		r = catch_signals(tool);
	if (r)
		return r;

	r = watch_begin(&guard.watch);
	/* What is not guarded is not to look as if it was. */
	if (r && r != -EINTR) {
		free(guard.watch.states);
		return fail_conn(tool);
	}

	if (!r) {
		if (!tool->json)
			note("%u MSR%s of %u vCPU%s guarded, ^C ends", guard.nr,
			     guard.nr == 1 ? "" : "s", guard.watch.vcpus,
			     guard.watch.vcpus == 1 ? "" : "s");
		r = watch_loop(&guard.watch);
	}
	if (!r || r == -EINTR)
		r = watch_end(&guard.watch);

	summary(&guard);
	free(guard.watch.states);
	return r ? fail_conn(tool) : STATUS_OK;
}

const struct command command_msr_guard = {
	.name = "msr-guard",
	.operands = "MSR...",
	.min = 1,
	.max = MAX_MSRS,
	.vm = true,
	.options = "nSD",
	.brief = "deny a VM changes of MSRs, and report them",
	.help =
	"MSR is a name, such as LSTAR or SYSENTER_EIP, or a number, such as 0xc0000082.\n"
	"On all vCPUs, a write that would change one of them writes the value that it\n"
	"has: nothing changes, and the guest gets no exception. One line an attempt: the\n"
	"instruction, the MSR, its value and the one that was denied.\n"
	"Guards until ^C, --count attempts or --seconds, or the end of the VM; then come\n"
	"the numbers. From then on the guest can write them again, and also when kvmi is\n"
	"killed.\n"
	"Guard what the guest writes once: it relies on the change of others, such as\n"
	"FS_BASE, and breaks.\n",
	.run = run,
};
