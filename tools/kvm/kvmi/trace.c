// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi trace
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tool.h"

/* How often to look for vCPUs that were added or started, ms */
#define TICK	1000

/* How long to wait for a vCPU that may not run, ms */
#define SHORT	200

/* Those that can be asked for. */
static const __u16 traceable[] = {
	KVMI_VCPU_EVENT_HYPERCALL, KVMI_VCPU_EVENT_BREAKPOINT, KVMI_VCPU_EVENT_PAUSE,
	KVMI_VM_EVENT_UNHOOK,
};

/* Where an event stands with a vCPU */
enum state {
	OFF,
	ON,
	CANNOT,
};

struct trace {
	struct tool *tool;
	bool wanted[KVMI_NEXT_VCPU_EVENT];
	unsigned long long counts[KVMI_NEXT_VCPU_EVENT];
	long long events;
	unsigned int vcpus;
	enum state (*states)[KVMI_NEXT_VCPU_EVENT];
	double begin;
	bool unhooked;
	bool patient;		/* with vCPUs that may not run */
	unsigned int late;	/* the last of them that the user was told about */
	bool cannot[KVMI_NEXT_VCPU_EVENT];
};

static int parse_events(struct trace *trace, int argc, char **argv)
{
	int i;
	size_t e;

	if (!argc) {
		trace->wanted[KVMI_VCPU_EVENT_HYPERCALL] = true;
		trace->wanted[KVMI_VCPU_EVENT_BREAKPOINT] = true;
		trace->wanted[KVMI_VM_EVENT_UNHOOK] = true;
	}
	for (i = 0; i < argc; i++) {
		for (e = 0; e < ARRAY_SIZE(traceable); e++)
			if (!strcmp(argv[i], kvmi_event_name(traceable[e])))
				break;
		if (e == ARRAY_SIZE(traceable))
			return fail(trace->tool, STATUS_USAGE,
				    "%s is no event that can be traced (hypercall, breakpoint, pause, unhook)",
				    argv[i]);
		trace->wanted[traceable[e]] = true;
	}
	return 0;
}

/*
 * A vCPU that does not run has its command queued and carries it out when it
 * does, so that is as good as done. It is waited for only once: meanwhile the
 * events of the others are not answered.
 */
static int enable_event(struct trace *trace, unsigned int vcpu, __u16 event)
{
	struct kvmi_conn *conn = trace->tool->conn;
	enum state *state = &trace->states[vcpu][event];
	int r;

	kvmi_set_timeout(conn, trace->patient ? trace->tool->timeout : SHORT);
	if (event == KVMI_VCPU_EVENT_PAUSE)
		r = kvmi_pause_vcpu(conn, vcpu, false);
	else
		r = kvmi_control_event(conn, vcpu, event, true);
	kvmi_set_timeout(conn, trace->tool->timeout);

	switch (r) {
	case 0:
		*state = ON;
		return 0;
	case -ETIMEDOUT:
		if (trace->late != vcpu)
			note("vCPU %u does not run: it is traced as soon as it does",
			     vcpu);
		trace->late = vcpu;
		trace->patient = false;
		*state = ON;
		return 0;
	case -EAGAIN:
		return 0;
	case -EOPNOTSUPP:
	case -EPERM:
		*state = CANNOT;
		if (!trace->cannot[event])
			note("%s", kvmi_strerror(conn));
		trace->cannot[event] = true;
		return 0;
	default:
		return r;
	}
}

static int enable_events(struct trace *trace)
{
	struct kvmi_conn *conn = trace->tool->conn;
	unsigned int vcpu, nr = trace->vcpus;
	int e, r;

	r = kvmi_get_vcpu_count(conn, &nr);
	if (r)
		return r;
	if (nr > trace->vcpus) {
		void *states = realloc(trace->states, nr * sizeof(*trace->states));

		if (!states) {
			note("out of memory: vCPU %u is not traced", trace->vcpus);
			return 0;
		}
		trace->states = states;
		memset(&trace->states[trace->vcpus], 0,
		       (nr - trace->vcpus) * sizeof(*trace->states));
		trace->vcpus = nr;
	}

	for (vcpu = 0; vcpu < trace->vcpus; vcpu++) {
		/* Odd events are those of vCPUs. */
		for (e = 1; e < KVMI_NEXT_VCPU_EVENT && !r; e += 2)
			if (trace->wanted[e] && trace->states[vcpu][e] == OFF)
				r = enable_event(trace, vcpu, e);
	}

	return r;
}

static int begin(struct trace *trace)
{
	struct kvmi_conn *conn = trace->tool->conn;
	int r = 0;

	if (trace->wanted[KVMI_VM_EVENT_UNHOOK])
		r = kvmi_control_vm_event(conn, KVMI_VM_EVENT_UNHOOK, true);
	if (!r)
		r = enable_events(trace);
	trace->patient = false;

	return r;
}

static void print_text(const struct kvmi_event *event, double time)
{
	const struct kvmi_vcpu_event_arch *arch = &event->arch;

	const char *name = kvmi_event_name(event->id) ?: "unknown";

	if (event->id & 1)
		printf("%11.6f  %-10s  vcpu %u  rip %016llx  cr3 %016llx  cpl %u", time, name,
		       event->vcpu, arch->regs.rip, arch->sregs.cr3, privilege_level(arch));
	else
		printf("%11.6f  %s", time, name);
	if (event->id == KVMI_VCPU_EVENT_BREAKPOINT) {
		if (event->breakpoint.gpa == KVMI_UNMAPPED)
			printf("  gpa unmapped");
		else
			printf("  gpa %llx", event->breakpoint.gpa);
		printf("  length %u", event->breakpoint.insn_len);
	} else if (event->id == KVMI_VCPU_EVENT_HYPERCALL) {
		printf("  rbx %llx  rdx %llx", arch->regs.rbx, arch->regs.rdx);
	}
	putchar('\n');
	fflush(stdout);
}

static void print_json(struct json *out, const struct kvmi_event *event, double time)
{
	const struct kvmi_vcpu_event_arch *arch = &event->arch;
	size_t i;

	json_object(out, NULL);
	json_double(out, "time", time);
	json_string(out, "event", kvmi_event_name(event->id) ?: "unknown");
	json_number(out, "seq", event->seq);
	if (event->id & 1) {
		json_number(out, "vcpu", event->vcpu);
		json_number(out, "operand_size", arch->mode);
		json_number(out, "cpl", privilege_level(arch));
		json_hex(out, "cr3", arch->sregs.cr3);
		json_object(out, "regs");
		for (i = 0; i < ARRAY_SIZE(register_names); i++)
			json_hex(out, register_names[i].name,
				 register_value(&arch->regs, &register_names[i]));
		json_end(out);
	}
	if (event->id == KVMI_VCPU_EVENT_BREAKPOINT) {
		if (event->breakpoint.gpa == KVMI_UNMAPPED)
			json_null(out, "gpa");
		else
			json_hex(out, "gpa", event->breakpoint.gpa);
		json_number(out, "length", event->breakpoint.insn_len);
	}
	json_end(out);
}

static bool has_enough(const struct trace *trace)
{
	return trace->tool->count > 0 && trace->events >= trace->tool->count;
}

/* The guest waits: answer first. */
static int handle(struct trace *trace, const struct kvmi_event *event)
{
	int r = kvmi_reply_event(trace->tool->conn, event, KVMI_EVENT_ACTION_CONTINUE, NULL, 0);
	double time = now() - trace->begin;

	if (has_enough(trace))
		return r;

	if (event->id < KVMI_NEXT_VCPU_EVENT)
		trace->counts[event->id]++;
	trace->events++;
	if (trace->tool->json)
		print_json(&trace->tool->out, event, time);
	else
		print_text(event, time);

	/* The VMM wants us gone; that we go is the answer. */
	if (event->id == KVMI_VM_EVENT_UNHOOK)
		trace->unhooked = true;

	return r;
}

static bool is_over(const struct trace *trace)
{
	const struct tool *tool = trace->tool;

	return trace->unhooked || has_enough(trace) ||
	       (tool->seconds > 0 && now() - trace->begin >= tool->seconds);
}

static int loop(struct trace *trace)
{
	double next_tick = now() + TICK / 1000.0;
	const struct tool *tool = trace->tool;
	struct kvmi_event event;
	int r = 0;

	while (r >= 0 && !is_over(trace)) {
		double wake = next_tick, t = now();

		if (tool->seconds > 0 && trace->begin + tool->seconds < wake)
			wake = trace->begin + tool->seconds;
		r = kvmi_next_event(tool->conn, &event, wake > t ? (wake - t) * 1000 + 1 : 0);
		if (r > 0)
			r = handle(trace, &event);
		if (r >= 0 && now() >= next_tick) {
			r = enable_events(trace);
			next_tick = now() + TICK / 1000.0;
		}
	}

	return r == -EINTR ? 0 : r;
}

/* No new events, and those that are here are answered. */
static int end(struct trace *trace)
{
	struct kvmi_conn *conn = trace->tool->conn;
	struct kvmi_event event;
	unsigned int vcpu;
	int e, r = 0;

	kvmi_set_interrupt(conn, -1);
	kvmi_set_timeout(conn, 500);
	for (vcpu = 0; vcpu < trace->vcpus && !r; vcpu++)
		for (e = 1; e < KVMI_NEXT_VCPU_EVENT && !r; e += 2)
			if (trace->states[vcpu][e] == ON && e != KVMI_VCPU_EVENT_PAUSE)
				r = kvmi_control_event(conn, vcpu, e, false);
	if (r == -ETIMEDOUT)
		r = 0;

	while (!r && kvmi_next_event(conn, &event, 0) > 0)
		r = handle(trace, &event);
	kvmi_close(conn);

	return r;
}

static void summary(struct trace *trace)
{
	struct json *out = &trace->tool->out;
	double seconds = now() - trace->begin;
	int e;

	if (trace->tool->json) {
		json_object(out, NULL);
		json_object(out, "summary");
		json_double(out, "seconds", seconds);
		json_number(out, "events", trace->events);
		for (e = 0; e < KVMI_NEXT_VCPU_EVENT; e++)
			if (trace->wanted[e] || trace->counts[e])
				json_number(out, kvmi_event_name(e), trace->counts[e]);
		json_end(out);
		json_end(out);
		return;
	}

	printf("%lld event%s in %.1f s:", trace->events, trace->events == 1 ? "" : "s", seconds);
	for (e = 0; e < KVMI_NEXT_VCPU_EVENT; e++)
		if (trace->wanted[e] || trace->counts[e])
			printf(" %s %llu", kvmi_event_name(e), trace->counts[e]);
	putchar('\n');
	fflush(stdout);
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct trace trace = { .tool = tool, .patient = true, .late = -1 };
	int r;

	r = parse_events(&trace, argc, argv);
	if (!r)
		r = connect_vm(tool);
	if (!r)
		r = catch_signals(tool);
	if (r)
		return r;

	trace.begin = now();
	r = begin(&trace);
	if (!r) {
		if (!tool->json)
			note("tracing, ^C ends");
		r = loop(&trace);
	}
	if (r == -EINTR)
		r = 0;
	if (!r)
		r = end(&trace);

	summary(&trace);
	free(trace.states);
	return r ? fail_conn(tool) : STATUS_OK;
}

const struct command command_trace = {
	.name = "trace",
	.operands = "[EVENT...]",
	.max = ARRAY_SIZE(traceable),
	.vm = true,
	.options = "nS",
	.brief = "show what happens in a VM, a line an event",
	.help =
	"Events: hypercall   the guest asked for an event: VMCALL or VMMCALL with 34 in\n"
	"                    RAX, 24 in RDI, 0 in RSI\n"
	"        breakpoint  the guest executed INT3; goes to the guest afterwards\n"
	"        pause       each vCPU once, at the beginning\n"
	"        unhook      the VMM asks the tool to leave; ends the trace\n"
	"All but pause if none is named. Each is answered CONTINUE: the guest goes on as\n"
	"if it was not watched. Ends with ^C, after --count events or --seconds, and\n"
	"when the VM does; then come the numbers.\n",
	.run = run,
};
