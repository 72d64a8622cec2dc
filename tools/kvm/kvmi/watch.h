/* SPDX-License-Identifier: GPL-2.0 */
/*
 * kvmi: watch the vCPUs of a VM, those that are added meanwhile too.
 */
#ifndef KVMI_WATCH_H
#define KVMI_WATCH_H

#include "tool.h"

#define WATCH_MAX	128

/* What can be switched on at a vCPU */
enum watch_kind {
	WATCH_EVENT,	/* KVMI_VCPU_EVENT_* */
	WATCH_CR,	/* number of a control register */
	WATCH_MSR,	/* index of an MSR */
	WATCH_STEP,
	WATCH_PAUSE,
};

struct watch_item {
	enum watch_kind kind;
	__u32 arg;
	bool cannot;	/* the user was told */
};

/* Where an item stands with a vCPU */
enum watch_state {
	WATCH_OFF,
	WATCH_ON,
	WATCH_CANNOT,
};

/**
 * struct watch - a VM that is watched
 * @tool: how it is wanted: --count and --seconds
 * @handle: answers an event and deals with it
 * @arg: for @handle
 * @strict: what cannot be switched on ends it; otherwise the user is told
 * @items: what is switched on at each vCPU, in this order
 * @nr_items: how many
 * @begin: when it began
 * @events: those that count
 * @leave: it is to end
 * @vcpus: how many are watched
 * @states: of each item, for each vCPU
 * @patient: with vCPUs that may not run
 * @late: the last of them that the user was told about
 */
struct watch {
	struct tool *tool;
	int (*handle)(void *arg, const struct kvmi_event *event);
	void *arg;
	bool strict;
	struct watch_item items[WATCH_MAX];
	unsigned int nr_items;
	double begin;
	long long events;
	bool leave;
	unsigned int vcpus;
	enum watch_state *states;
	bool patient;
	unsigned int late;
};

void watch_add(struct watch *watch, enum watch_kind kind, __u32 arg);
int watch_begin(struct watch *watch);
bool watch_has_enough(const struct watch *watch);
int watch_loop(struct watch *watch);
int watch_end(struct watch *watch);

#endif
