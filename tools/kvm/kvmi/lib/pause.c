// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: pausing vCPUs and letting them go on.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

static int make_room(struct kvmi_conn *conn, unsigned int nr)
{
	struct kvmi_paused *paused;
	unsigned int i;

	if (nr <= conn->nr_paused)
		return 0;

	paused = realloc(conn->paused, nr * sizeof(*paused));
	if (!paused)
		return kvmi_fail(conn, ENOMEM, KVMI_FAILURE_OTHER, "out of memory");

	for (i = conn->nr_paused; i < nr; i++)
		paused[i] = (struct kvmi_paused){ 0 };
	conn->paused = paused;
	conn->nr_paused = nr;

	return 0;
}

/* Is this event what kvmi_pause() waits for? */
bool kvmi_note_paused(struct kvmi_conn *conn, const struct kvmi_event *event)
{
	struct kvmi_paused *paused;

	if (event->id != KVMI_VCPU_EVENT_PAUSE || event->vcpu >= conn->nr_paused)
		return false;

	paused = &conn->paused[event->vcpu];
	if (!paused->asked)
		return false;

	paused->asked = false;
	paused->paused = true;
	paused->seq = event->seq;

	return true;
}

/**
 * kvmi_pause - stop vCPUs
 * @conn: the connection
 * @vcpu: index of the vCPU, negative: all of them
 *
 * When this returns 0 none of them executes guest code, nor will before
 * kvmi_resume() or the end of the connection. They can carry out commands when
 * kvmi_wait_paused() says so.
 *
 * Return: 0 or a negative errno
 */
int kvmi_pause(struct kvmi_conn *conn, int vcpu)
{
	unsigned int first = vcpu, end = vcpu + 1;
	int r;

	if (vcpu < 0) {
		first = 0;
		r = kvmi_get_vcpu_count(conn, &end);
		if (r)
			return r;
	}

	r = make_room(conn, end);
	for (; !r && first < end; first++) {
		struct kvmi_paused *paused = &conn->paused[first];

		if (paused->asked || paused->paused)
			continue;
		/* The event may come before the reply. */
		paused->asked = true;
		r = kvmi_pause_vcpu(conn, first, true);
		if (r)
			paused->asked = false;
	}

	return r;
}

static int nr_missing(const struct kvmi_conn *conn)
{
	unsigned int i;
	int nr = 0;

	for (i = 0; i < conn->nr_paused; i++)
		nr += conn->paused[i].asked;

	return nr;
}

/**
 * kvmi_wait_paused - wait until vCPUs can carry out commands
 * @conn: the connection
 * @timeout_ms: how long to wait
 *
 * Return: 0, a negative errno, or how many of the vCPUs that kvmi_pause()
 * stopped are not in KVM_RUN: their VMM has stopped them
 */
int kvmi_wait_paused(struct kvmi_conn *conn, int timeout_ms)
{
	__s64 deadline = kvmi_now_ms() + timeout_ms;
	int r = 0;

	while (!r && nr_missing(conn))
		r = kvmi_pump(conn, deadline);

	return r && r != -ETIMEDOUT ? r : nr_missing(conn);
}

/**
 * kvmi_is_paused - does a vCPU wait for kvmi_resume()
 * @conn: the connection
 * @vcpu: index of the vCPU
 *
 * Return: true if kvmi_wait_paused() has seen it
 */
bool kvmi_is_paused(const struct kvmi_conn *conn, __u16 vcpu)
{
	return vcpu < conn->nr_paused && conn->paused[vcpu].paused;
}

/**
 * kvmi_resume - let all vCPUs go on that kvmi_pause() stopped
 * @conn: the connection
 *
 * One that was not in KVM_RUN is still going to pause when it enters it, until
 * this is called again; the end of the connection lets it go for good.
 *
 * Return: 0 or a negative errno
 */
int kvmi_resume(struct kvmi_conn *conn)
{
	struct kvmi_event event = { .id = KVMI_VCPU_EVENT_PAUSE };
	unsigned int i;
	int r = 0;

	for (i = 0; i < conn->nr_paused && !r; i++) {
		if (!conn->paused[i].paused)
			continue;
		event.vcpu = i;
		event.seq = conn->paused[i].seq;
		conn->paused[i].paused = false;
		r = kvmi_reply_event(conn, &event, KVMI_EVENT_ACTION_CONTINUE, NULL, 0);
	}

	return r;
}

/**
 * kvmi_leave_pauses - leave late pauses to the caller
 * @conn: the connection
 *
 * For who goes on to take events after kvmi_resume(): the PAUSE event of a vCPU
 * that was not in KVM_RUN when kvmi_pause() was called is among them now, and to
 * be answered.
 */
void kvmi_leave_pauses(struct kvmi_conn *conn)
{
	unsigned int i;

	for (i = 0; i < conn->nr_paused; i++)
		conn->paused[i].asked = false;
}
