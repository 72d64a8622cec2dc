// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi trace
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "watch.h"

#define MAX_EVENTS	64

/* What can be asked for, and what it takes besides switching the event on */
static const struct traceable {
	const char *name;
	__u16 event;
	bool cheap;		/* traced if nothing is named */
	enum watch_kind kind;
	unsigned int nr;
	__u32 args[8];
} traceables[] = {
	{ "hypercall", KVMI_VCPU_EVENT_HYPERCALL, .cheap = true },
	{ "breakpoint", KVMI_VCPU_EVENT_BREAKPOINT, .cheap = true },
	{ "xsetbv", KVMI_VCPU_EVENT_XSETBV, .cheap = true },
	{ "descriptor", KVMI_VCPU_EVENT_DESCRIPTOR, .cheap = true },
	/* SYSENTER_CS, _ESP, _EIP, EFER, STAR, LSTAR, CSTAR: where system calls go */
	{ "msr", KVMI_VCPU_EVENT_MSR, true, WATCH_MSR, 7,
	  { 0x174, 0x175, 0x176, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083 } },
	{ "cr", KVMI_VCPU_EVENT_CR, false, WATCH_CR, 3, { 0, 3, 4 } },
	{ "cr0", KVMI_VCPU_EVENT_CR, false, WATCH_CR, 1, { 0 } },
	{ "cr3", KVMI_VCPU_EVENT_CR, false, WATCH_CR, 1, { 3 } },
	{ "cr4", KVMI_VCPU_EVENT_CR, false, WATCH_CR, 1, { 4 } },
	{ "trap", KVMI_VCPU_EVENT_TRAP, .cheap = false },
	{ "singlestep", KVMI_VCPU_EVENT_SINGLESTEP, false, WATCH_STEP, 1, { 0 } },
	{ "pause", KVMI_VCPU_EVENT_PAUSE, .cheap = false },
	{ "unhook", KVMI_VM_EVENT_UNHOOK, .cheap = true },
};

struct trace {
	struct watch watch;
	bool wanted[KVMI_NEXT_VCPU_EVENT];
	unsigned long long counts[KVMI_NEXT_VCPU_EVENT];
};

static void choose(struct trace *trace, const struct traceable *what)
{
	unsigned int i;

	trace->wanted[what->event] = true;
	for (i = 0; i < what->nr; i++)
		watch_add(&trace->watch, what->kind, what->args[i]);
}

static const struct traceable *find_traceable(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(traceables); i++)
		if (!strcmp(traceables[i].name, name))
			return &traceables[i];
	return NULL;
}

static int parse_event(struct trace *trace, const char *arg)
{
	static const char prefix[] = "msr:";
	const struct traceable *what = find_traceable(arg);
	__u32 msr;
	int r;

	if (what) {
		choose(trace, what);
		return 0;
	}
	if (strncmp(arg, prefix, strlen(prefix)))
		return fail(trace->watch.tool, STATUS_USAGE,
			    "%s is no event that can be traced: 'kvmi trace --help' lists them",
			    arg);

	r = parse_msr(trace->watch.tool, arg + strlen(prefix), &msr);
	if (r)
		return r;
	trace->wanted[KVMI_VCPU_EVENT_MSR] = true;
	watch_add(&trace->watch, WATCH_MSR, msr);
	return 0;
}

/* Those that are named must be there. */
static int check_events(struct trace *trace)
{
	int e, r = 0;

	for (e = 0; e < KVMI_NEXT_VCPU_EVENT && !r; e++)
		if (trace->wanted[e])
			r = check_event(trace->watch.tool, e);
	return r;
}

/* If none is named, those that are cheap, as far as they are there */
static int choose_events(struct trace *trace)
{
	struct tool *tool = trace->watch.tool;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(traceables); i++) {
		if (!traceables[i].cheap)
			continue;
		r = kvmi_check_event(tool->conn, traceables[i].event);
		if (r == -ENOENT)
			continue;
		if (r && r != -EPERM)
			return fail_conn(tool);
		choose(trace, &traceables[i]);
	}
	return 0;
}

static int begin(struct trace *trace)
{
	int e, r = 0;

	/* Odd events are those of vCPUs. */
	for (e = 1; e < KVMI_NEXT_VCPU_EVENT; e += 2)
		if (trace->wanted[e])
			watch_add(&trace->watch, e == KVMI_VCPU_EVENT_PAUSE ?
				  WATCH_PAUSE : WATCH_EVENT, e);

	if (trace->wanted[KVMI_VM_EVENT_UNHOOK])
		r = kvmi_control_vm_event(trace->watch.tool->conn, KVMI_VM_EVENT_UNHOOK, true);

	return r ?: watch_begin(&trace->watch);
}

/* The guest waits: answer first. */
static int handle(void *arg, const struct kvmi_event *event)
{
	struct trace *trace = arg;
	struct tool *tool = trace->watch.tool;
	int r = kvmi_continue_event(tool->conn, event);
	double time = now() - trace->watch.begin;

	if (watch_has_enough(&trace->watch))
		return r;

	if (event->id < KVMI_NEXT_VCPU_EVENT)
		trace->counts[event->id]++;
	trace->watch.events++;
	print_event(tool, event, time, NULL, NULL);

	return r;
}

static void summary(struct trace *trace)
{
	struct json *out = &trace->watch.tool->out;
	double seconds = now() - trace->watch.begin;
	long long events = trace->watch.events;
	int e;

	if (trace->watch.tool->json) {
		json_object(out, NULL);
		json_object(out, "summary");
		json_double(out, "seconds", seconds);
		json_number(out, "events", events);
		for (e = 0; e < KVMI_NEXT_VCPU_EVENT; e++)
			if (trace->wanted[e] || trace->counts[e])
				json_number(out, kvmi_event_name(e), trace->counts[e]);
		json_end(out);
		json_end(out);
		return;
	}

	printf("%lld event%s in %.1f s:", events, events == 1 ? "" : "s", seconds);
	for (e = 0; e < KVMI_NEXT_VCPU_EVENT; e++)
		if (trace->wanted[e] || trace->counts[e])
			printf(" %s %llu", kvmi_event_name(e), trace->counts[e]);
	putchar('\n');
	fflush(stdout);
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct trace trace = {
		.watch = { .tool = tool, .handle = handle, .arg = &trace, .begin = now() },
	};
	int i, r = 0;

	for (i = 0; i < argc && !r; i++)
		r = parse_event(&trace, argv[i]);
	if (!r)
		r = connect_vm(tool);
	if (!r)
		r = argc ? check_events(&trace) : choose_events(&trace);
	if (!r)
		r = catch_signals(tool);
	if (r)
		return r;

	r = begin(&trace);
	if (!r) {
		if (!tool->json)
			note("tracing, ^C ends");
		r = watch_loop(&trace.watch);
	}
	if (r == -EINTR)
		r = 0;
	if (!r)
		r = watch_end(&trace.watch);

	summary(&trace);
	free(trace.watch.states);
	return r ? fail_conn(tool) : STATUS_OK;
}

const struct command command_trace = {
	.name = "trace",
	.operands = "[EVENT...]",
	.max = MAX_EVENTS,
	.vm = true,
	.options = "nSD",
	.brief = "show what happens in a VM, a line an event",
	.help =
	"Events: hypercall   the guest asked for an event: VMCALL or VMMCALL with 34 in\n"
	"                    RAX, 24 in RDI, 0 in RSI\n"
	"        breakpoint  the guest executed INT3; goes to the guest afterwards\n"
	"        msr         the guest changes an MSR: SYSENTER_CS, SYSENTER_ESP,\n"
	"                    SYSENTER_EIP, STAR, LSTAR, CSTAR, EFER\n"
	"        msr:MSR     the same for this one: msr:LSTAR, msr:0xc0000082, ...\n"
	"        xsetbv      the guest changes XCR0\n"
	"        descriptor  the guest loads or stores IDTR, GDTR, LDTR or TR\n"
	"        unhook      the VMM asks the tool to leave; ends the trace\n"
	"If none is named, these are traced (no msr:MSR), as far as the kernel has them:\n"
	"they are rare. Others may be frequent, and slow the guest down:\n"
	"        cr          the guest changes CR0, CR3 or CR4: CR3 with every process it\n"
	"                    switches to, CR4 in some guests with every flush of the TLB\n"
	"        cr0 cr3 cr4 the same for one of them\n"
	"        singlestep  each instruction of each vCPU: see 'kvmi step'\n"
	"        pause       each vCPU once, at the beginning\n"
	"        trap        an exception that the tool injected; 'kvmi' injects none\n"
	"Of a register, the old value and the one that the guest writes are shown. Each\n"
	"event is answered such that the guest goes on as if it was not watched. Ends\n"
	"with ^C, after --count events or --seconds, and when the VM does; then come the\n"
	"numbers.\n",
	.run = run,
};
