/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libkvmi: what its files share.
 */
#ifndef LIBKVMI_INTERNAL_H
#define LIBKVMI_INTERNAL_H

#include <sys/uio.h>

#include "compiler.h"
#include "kvmi.h"

/* Room for a few messages: fewer system calls when replies are pipelined. */
#define KVMI_BUFFER	(8 * (sizeof(struct kvmi_msg_hdr) + KVMI_MSG_SIZE))

/**
 * struct kvmi_call - a command that was sent and waits for its reply
 * @next: in kvmi_conn.calls
 * @id: the command
 * @seq: its number, which the reply repeats
 * @reply: where reply data goes
 * @reply_size: bytes that are expected; what comes beyond is dropped
 * @done: the reply came
 * @err: what it says: 0 or a negative errno
 */
struct kvmi_call {
	struct kvmi_call *next;
	__u16 id;
	__u32 seq;
	void *reply;
	size_t reply_size;
	bool done;
	int err;
};

/* An event that came while something else was waited for. */
struct kvmi_queued_event {
	struct kvmi_queued_event *next;
	struct kvmi_event event;
};

/* A vCPU's part in kvmi_pause(). */
struct kvmi_paused {
	bool asked;	/* PAUSE_VCPU was sent, its event did not come yet */
	bool paused;	/* the event came and was not answered yet */
	__u32 seq;
};

/**
 * struct kvmi_conn - a connection to KVM
 * @sock: the socket; -1: none, or it is lost
 * @pidfd: the process that owns the VM, -1: not known
 * @pid: the same
 * @interrupt: fd that ends any waiting, -1: none
 * @timeout: for a command, ms
 * @seq: number of the last command
 * @calls: commands that wait for their replies
 * @events: events that nobody has taken yet, oldest first
 * @events_end: where the next one goes
 * @paused: for each vCPU, see kvmi_pause()
 * @nr_paused: size of @paused
 * @error: the last failure
 * @start: where the next message begins in @buf
 * @end: where the received bytes end in @buf
 * @buf: received bytes
 */
struct kvmi_conn {
	int sock;
	int pidfd;
	pid_t pid;
	int interrupt;
	int timeout;
	__u32 seq;
	struct kvmi_call *calls;
	struct kvmi_queued_event *events;
	struct kvmi_queued_event **events_end;
	struct kvmi_paused *paused;
	unsigned int nr_paused;
	struct {
		enum kvmi_failure failure;
		char text[320];
	} error;
	size_t start;
	size_t end;
	__u8 buf[KVMI_BUFFER];
};

/* error.c */
int kvmi_fail(struct kvmi_conn *conn, int err, enum kvmi_failure failure,
	      const char *fmt, ...) __printf(4, 5);

/* connection.c */
__s64 kvmi_now_ms(void);
int kvmi_pump(struct kvmi_conn *conn, __s64 deadline);
int kvmi_send(struct kvmi_conn *conn, struct iovec *iov, int n);
int kvmi_call_send(struct kvmi_conn *conn, struct kvmi_call *call, struct iovec *iov, int n);
int kvmi_call_wait(struct kvmi_conn *conn, struct kvmi_call *call, __s64 deadline);
void kvmi_call_forget(struct kvmi_conn *conn, struct kvmi_call *call);

/* events.c */
int kvmi_take_event(struct kvmi_conn *conn, const struct kvmi_msg_hdr *hdr, const void *data);
void kvmi_drop_events(struct kvmi_conn *conn);

/* served.c */
int kvmi_add_served(struct kvmi_vms *vms);
int kvmi_use_served(struct kvmi_conn *conn, const struct kvmi_vm *vm);

/* pause.c */
bool kvmi_note_paused(struct kvmi_conn *conn, const struct kvmi_event *event);

#endif
