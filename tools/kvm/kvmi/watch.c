// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: watch the vCPUs of a VM, those that are added meanwhile too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "watch.h"

/* How often to look for vCPUs that were added or started, ms */
#define TICK	1000

/* KVM hangs up on a kvmi that misses so many deadlines in a row. */
#define MAX_MISSED	10

/* How long to wait for a vCPU that may not run, and for one that does not, ms */
#define SHORT	200
#define NO_TIME	1

/* Add to what is switched on; what is there already is not added again. */
void watch_add(struct watch *watch, enum watch_kind kind, __u32 arg)
{
	unsigned int i;

	for (i = 0; i < watch->nr_items; i++)
		if (watch->items[i].kind == kind && watch->items[i].arg == arg)
			return;
	if (i < WATCH_MAX)
		watch->items[watch->nr_items++] = (struct watch_item){ .kind = kind, .arg = arg };
}

static enum watch_state *state_of(const struct watch *watch, unsigned int vcpu, unsigned int i)
{
	return &watch->states[vcpu * watch->nr_items + i];
}

static int switch_item(struct kvmi_conn *conn, unsigned int vcpu, const struct watch_item *item,
		       bool enable)
{
	switch (item->kind) {
	case WATCH_EVENT:
		return kvmi_control_event(conn, vcpu, item->arg, enable);
	case WATCH_CR:
		return kvmi_control_cr(conn, vcpu, item->arg, enable);
	case WATCH_MSR:
		return kvmi_control_msr(conn, vcpu, item->arg, enable);
	case WATCH_STEP:
		return kvmi_control_singlestep(conn, vcpu, enable);
	case WATCH_PAUSE:
		return enable ? kvmi_pause_vcpu(conn, vcpu, false) : 0;
	}
	return 0;
}

static int time_for(const struct watch *watch, unsigned int vcpu)
{
	if (watch->late == vcpu)
		return NO_TIME;
	return watch->patient ? watch->tool->timeout : SHORT;
}

/*
 * A vCPU that does not run has its command queued and carries it out when it
 * does, so that is as good as done. It is waited for only once: meanwhile the
 * events of the others are not answered.
 */
static int enable_item(struct watch *watch, unsigned int vcpu, unsigned int i)
{
	enum watch_state *state = state_of(watch, vcpu, i);
	struct kvmi_conn *conn = watch->tool->conn;
	struct watch_item *item = &watch->items[i];
	int r;

	kvmi_set_timeout(conn, time_for(watch, vcpu));
	r = switch_item(conn, vcpu, item, true);
	kvmi_set_timeout(conn, watch->tool->timeout);

	switch (r) {
	case 0:
		*state = WATCH_ON;
		return 0;
	case -ETIMEDOUT:
		if (watch->late != vcpu)
			note("vCPU %u does not run: it is watched as soon as it does",
			     vcpu);
		watch->late = vcpu;
		watch->patient = false;
		*state = WATCH_ON;
		return 0;
	case -EAGAIN:
		return 0;
	case -EINVAL:
	case -EOPNOTSUPP:
	case -EPERM:
		if (watch->strict)
			return r;
		*state = WATCH_CANNOT;
		if (!item->cannot)
			note("%s", kvmi_strerror(conn));
		item->cannot = true;
		return 0;
	default:
		return r;
	}
}

/* Returns false if there is no memory for it. */
static bool add_vcpus(struct watch *watch, unsigned int nr)
{
	enum watch_state *states;

	if (nr <= watch->vcpus)
		return true;

	states = realloc(watch->states, (nr * watch->nr_items + 1) * sizeof(*states));
	if (!states)
		return false;

	watch->states = states;
	memset(state_of(watch, watch->vcpus, 0), 0,
	       (nr - watch->vcpus) * watch->nr_items * sizeof(*states));
	watch->vcpus = nr;
	return true;
}

static int enable_items(struct watch *watch)
{
	unsigned int vcpu, i, nr = watch->vcpus;
	int r;

	r = kvmi_get_vcpu_count(watch->tool->conn, &nr);
	if (r)
		return r;
	if (!add_vcpus(watch, nr)) {
		note("out of memory: vCPU %u is not watched", watch->vcpus);
		return 0;
	}

	for (vcpu = 0; vcpu < watch->vcpus; vcpu++)
		for (i = 0; i < watch->nr_items && !r; i++)
			if (*state_of(watch, vcpu, i) == WATCH_OFF)
				r = enable_item(watch, vcpu, i);

	return r;
}

/* Like the other functions here: 0, or what the library returned */
int watch_begin(struct watch *watch)
{
	int r;

	watch->patient = true;
	watch->late = -1;
	watch->begin = now();
	r = enable_items(watch);
	watch->patient = false;

	return r;
}

bool watch_has_enough(const struct watch *watch)
{
	return watch->tool->count > 0 && watch->events >= watch->tool->count;
}

static bool is_over(const struct watch *watch)
{
	const struct tool *tool = watch->tool;

	return watch->leave || watch_has_enough(watch) ||
	       (tool->seconds > 0 && now() - watch->begin >= tool->seconds);
}

/*
 * So that the guest goes on even if kvmi does not. Not before this: a pause, too, is
 * over when the deadline has passed.
 */
static int set_deadline(const struct tool *tool)
{
	if (!tool->deadline)
		return 0;

	return kvmi_set_deadline(tool->conn, &tool->vm, tool->deadline * 1000 + 1, MAX_MISSED);
}

/* The VMM may want us gone; that we go is the answer. */
static int handle_event(struct watch *watch, const struct kvmi_event *event)
{
	int r = watch->handle(watch->arg, event);

	if (event->id == KVMI_VM_EVENT_UNHOOK) {
		if (!watch->tool->json)
			note("asked to leave the VM: this ends");
		watch->leave = true;
	}
	return r;
}

/* Until a signal, the end of the time, or enough events */
int watch_loop(struct watch *watch)
{
	double next_tick = now() + TICK / 1000.0;
	const struct tool *tool = watch->tool;
	struct kvmi_event event;
	int r = set_deadline(tool);

	while (r >= 0 && !is_over(watch)) {
		double wake = next_tick, t = now();

		if (tool->seconds > 0 && watch->begin + tool->seconds < wake)
			wake = watch->begin + tool->seconds;
		r = kvmi_next_event(tool->conn, &event, wake > t ? (wake - t) * 1000 + 1 : 0);
		if (r > 0)
			r = handle_event(watch, &event);
		if (r >= 0 && now() >= next_tick) {
			r = enable_items(watch);
			next_tick = now() + TICK / 1000.0;
		}
	}

	return r == -EINTR ? 0 : r;
}

/* No new events, and those that are here are answered. */
int watch_end(struct watch *watch)
{
	struct kvmi_conn *conn = watch->tool->conn;
	struct kvmi_event event;
	unsigned int vcpu, i;
	int r = 0;

	kvmi_set_interrupt(conn, -1);
	kvmi_set_timeout(conn, 500);
	for (vcpu = 0; vcpu < watch->vcpus && !r; vcpu++)
		for (i = 0; i < watch->nr_items && !r; i++)
			if (*state_of(watch, vcpu, i) == WATCH_ON)
				r = switch_item(conn, vcpu, &watch->items[i], false);
	if (r == -ETIMEDOUT)
		r = 0;

	while (!r && kvmi_next_event(conn, &event, 0) > 0)
		r = watch->handle(watch->arg, &event);
	kvmi_close(conn);

	return r;
}
