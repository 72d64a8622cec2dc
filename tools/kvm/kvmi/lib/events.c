// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: events.
 *
 * They may come at any time, between a command and its reply too: they are kept
 * until somebody asks for the next one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Take an event apart; false if it is none. */
static bool parse(const struct kvmi_msg_hdr *hdr, const __u8 *data, struct kvmi_event *event)
{
	const size_t fixed = offsetof(struct kvmi_vcpu_event, arch) + sizeof(event->arch);
	struct kvmi_event_hdr event_hdr;
	struct kvmi_vcpu_event common;
	size_t left = hdr->size, n;

	memset(event, 0, sizeof(*event));
	if (left < sizeof(event_hdr))
		return false;

	memcpy(&event_hdr, data, sizeof(event_hdr));
	data += sizeof(event_hdr);
	left -= sizeof(event_hdr);
	event->id = event_hdr.event;
	event->seq = hdr->seq;

	/* Odd ids are those of a vCPU, of messages as well as of events. */
	if ((event->id ^ hdr->id) & 1)
		return false;
	if (hdr->id == KVMI_VM_EVENT)
		return true;

	if (left < fixed)
		return false;
	memcpy(&common, data, sizeof(common));
	if (common.size < fixed || common.size > left)
		return false;
	event->vcpu = common.vcpu;
	event->arch = common.arch;

	/* A later KVM may have more to say in both parts. */
	n = left - common.size;
	if (n > sizeof(event->payload))
		n = sizeof(event->payload);
	memcpy(event->payload, data + common.size, n);
	event->payload_size = n;

	return true;
}

int kvmi_take_event(struct kvmi_conn *conn, const struct kvmi_msg_hdr *hdr, const void *data)
{
	struct kvmi_queued_event *entry;
	struct kvmi_event event;

	if (!parse(hdr, data, &event))
		return -EPROTO;

	if (kvmi_note_paused(conn, &event))
		return 0;

	entry = malloc(sizeof(*entry));
	if (!entry)
		return kvmi_fail(conn, ENOMEM, KVMI_FAILURE_OTHER, "out of memory");

	entry->event = event;
	entry->next = NULL;
	*conn->events_end = entry;
	conn->events_end = &entry->next;

	return 0;
}

void kvmi_drop_events(struct kvmi_conn *conn)
{
	struct kvmi_queued_event *entry;

	while ((entry = conn->events)) {
		conn->events = entry->next;
		free(entry);
	}
	conn->events_end = &conn->events;
}

/**
 * kvmi_next_event - take the next event, waiting for it if there is none yet
 * @conn: the connection
 * @event: out
 * @timeout_ms: how long to wait; negative: forever
 *
 * The PAUSE events of kvmi_pause() are not among them.
 *
 * Return: 1, 0 if none came in time, or a negative errno
 */
int kvmi_next_event(struct kvmi_conn *conn, struct kvmi_event *event, int timeout_ms)
{
	__s64 deadline = timeout_ms < 0 ? -1 : kvmi_now_ms() + timeout_ms;
	struct kvmi_queued_event *entry;
	int r = 0;

	while (!conn->events && !r)
		r = kvmi_pump(conn, deadline);

	entry = conn->events;
	if (!entry)
		return r == -ETIMEDOUT ? 0 : r;

	*event = entry->event;
	conn->events = entry->next;
	if (!conn->events)
		conn->events_end = &conn->events;
	free(entry);

	return 1;
}

/**
 * kvmi_reply_event - answer a vCPU event
 * @conn: the connection
 * @event: what is answered; a VM event needs no answer and gets none
 * @action: KVMI_EVENT_ACTION_*, one of those that the event allows: KVM ends
 *	    the connection otherwise
 * @data: reply data, if the event has any
 * @size: its size, bytes
 *
 * Return: 0 or a negative errno
 */
int kvmi_reply_event(struct kvmi_conn *conn, const struct kvmi_event *event, __u8 action,
		     const void *data, size_t size)
{
	struct kvmi_vcpu_hdr vcpu_hdr = { .vcpu = event->vcpu };
	struct kvmi_vcpu_event_reply reply = { .action = action, .event = event->id };
	struct kvmi_msg_hdr hdr = { .id = KVMI_VCPU_EVENT, .seq = event->seq };
	struct iovec iov[] = {
		{ .iov_base = &hdr, .iov_len = sizeof(hdr) },
		{ .iov_base = &vcpu_hdr, .iov_len = sizeof(vcpu_hdr) },
		{ .iov_base = &reply, .iov_len = sizeof(reply) },
		{ .iov_base = (void *)data, .iov_len = size },
	};

	if (!(event->id & 1))
		return 0;

	hdr.size = sizeof(vcpu_hdr) + sizeof(reply) + size;
	return kvmi_send(conn, iov, size ? 4 : 3);
}

/* Both have the same: what is to be written. */
static int reply_value(struct kvmi_conn *conn, const struct kvmi_event *event, __u64 value)
{
	return kvmi_reply_event(conn, event, KVMI_EVENT_ACTION_CONTINUE, &value, sizeof(value));
}

/**
 * kvmi_continue_event - let the guest go on as if nobody watched
 * @conn: the connection
 * @event: what is answered
 *
 * Without reply data KVM would write zero to the register of a CR or MSR event.
 *
 * Return: 0 or a negative errno
 */
int kvmi_continue_event(struct kvmi_conn *conn, const struct kvmi_event *event)
{
	switch (event->id) {
	case KVMI_VCPU_EVENT_CR:
		return reply_value(conn, event, event->cr.new_value);
	case KVMI_VCPU_EVENT_MSR:
		return reply_value(conn, event, event->msr.new_value);
	default:
		return kvmi_reply_event(conn, event, KVMI_EVENT_ACTION_CONTINUE, NULL, 0);
	}
}

/**
 * kvmi_deny_event - let the guest go on, with the register left as it is
 * @conn: the connection
 * @event: a CR or an MSR event
 *
 * Return: 0, -EINVAL: it is another event, or another negative errno
 */
int kvmi_deny_event(struct kvmi_conn *conn, const struct kvmi_event *event)
{
	switch (event->id) {
	case KVMI_VCPU_EVENT_CR:
		return reply_value(conn, event, event->cr.old_value);
	case KVMI_VCPU_EVENT_MSR:
		return reply_value(conn, event, event->msr.old_value);
	default:
		return kvmi_fail(conn, EINVAL, KVMI_FAILURE_OTHER,
				 "there is nothing to deny in this event");
	}
}
