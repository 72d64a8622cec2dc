// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: the socket, frames, and which reply belongs to which command.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define DEFAULT_TIMEOUT	5000

__s64 kvmi_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/**
 * kvmi_new - make a connection that is not connected yet
 *
 * Return: the connection, for kvmi_attach() or kvmi_adopt(); NULL without memory
 */
struct kvmi_conn *kvmi_new(void)
{
	struct kvmi_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;

	conn->sock = -1;
	conn->pidfd = -1;
	conn->interrupt = -1;
	conn->timeout = DEFAULT_TIMEOUT;
	conn->events_end = &conn->events;

	return conn;
}

/**
 * kvmi_adopt - use a socket whose other end KVM already has
 * @conn: a connection that is not connected
 * @sock: connected stream socket; the connection owns it from now on
 *
 * Return: 0 or a negative errno
 */
int kvmi_adopt(struct kvmi_conn *conn, int sock)
{
	socklen_t len = sizeof(int);
	int type;

	if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM)
		return kvmi_fail(conn, EINVAL, KVMI_FAILURE_OTHER,
				 "file descriptor %d is no stream socket", sock);

	conn->sock = sock;
	return 0;
}

/**
 * kvmi_close - end the introspection
 * @conn: the connection
 *
 * vCPUs that wait for an answer go on, all that was intercepted for this
 * connection is not any more.
 */
void kvmi_close(struct kvmi_conn *conn)
{
	if (conn->sock >= 0)
		close(conn->sock);
	if (conn->pidfd >= 0)
		close(conn->pidfd);
	conn->sock = -1;
	conn->pidfd = -1;
	conn->start = 0;
	conn->end = 0;
	kvmi_drop_events(conn);
	free(conn->paused);
	conn->paused = NULL;
	conn->nr_paused = 0;
}

/**
 * kvmi_free - close a connection and free it
 * @conn: the connection, may be NULL
 */
void kvmi_free(struct kvmi_conn *conn)
{
	if (!conn)
		return;

	kvmi_close(conn);
	free(conn);
}

/**
 * kvmi_set_timeout - limit the time that a command may take
 * @conn: the connection
 * @ms: milliseconds
 */
void kvmi_set_timeout(struct kvmi_conn *conn, int ms)
{
	conn->timeout = ms;
}

/**
 * kvmi_set_interrupt - let something interrupt any waiting
 * @conn: the connection
 * @fd: when it is readable, functions that wait fail with -EINTR; -1: none.
 *	A signalfd for example
 */
void kvmi_set_interrupt(struct kvmi_conn *conn, int fd)
{
	conn->interrupt = fd;
}

static int nonsense(struct kvmi_conn *conn, const char *what, unsigned int value)
{
	close(conn->sock);
	conn->sock = -1;

	return kvmi_fail(conn, EPROTO, KVMI_FAILURE_OTHER,
			 "KVM does not keep to the protocol: %s (%u)", what, value);
}

/*
 * The connection ended. KVM lets go of the VM shortly before the process that
 * owned it is seen to have ended.
 */
static int lost(struct kvmi_conn *conn)
{
	struct pollfd pfd = { .fd = conn->pidfd, .events = POLLIN };

	if (conn->sock >= 0)
		close(conn->sock);
	conn->sock = -1;

	if (conn->pidfd >= 0 && poll(&pfd, 1, 500) > 0)
		return kvmi_fail(conn, ECONNRESET, KVMI_FAILURE_NO_VM,
				 "the VM is gone: process %d has ended", conn->pid);

	return kvmi_fail(conn, ECONNRESET, KVMI_FAILURE_NO_VM,
			 "KVM ended the connection: the VM is gone, or its VMM does not want it introspected any more");
}

static void take_reply(struct kvmi_conn *conn, const struct kvmi_msg_hdr *hdr,
		       const struct kvmi_error_code *ec, const void *data, size_t size)
{
	struct kvmi_call *call, **link;

	for (link = &conn->calls; (call = *link); link = &call->next)
		if (call->seq == hdr->seq && call->id == hdr->id)
			break;
	/* Of a command that was given up. */
	if (!call)
		return;

	*link = call->next;
	call->done = true;
	call->err = ec->err;
	if (call->err)
		return;

	if (size < call->reply_size)
		call->err = -EPROTO;
	else if (call->reply_size)
		memcpy(call->reply, data, call->reply_size);
}

static int take_message(struct kvmi_conn *conn, const struct kvmi_msg_hdr *hdr, const __u8 *data)
{
	struct kvmi_error_code ec;

	if (hdr->id == KVMI_VM_EVENT || hdr->id == KVMI_VCPU_EVENT) {
		int r = kvmi_take_event(conn, hdr, data);

		return r == -EPROTO ? nonsense(conn, "event of size", hdr->size) : r;
	}

	if (hdr->size < sizeof(ec))
		return nonsense(conn, "reply of size", hdr->size);

	memcpy(&ec, data, sizeof(ec));
	if (ec.err > 0)
		return nonsense(conn, "positive error code", ec.err);

	take_reply(conn, hdr, &ec, data + sizeof(ec), hdr->size - sizeof(ec));
	return 0;
}

static int take_messages(struct kvmi_conn *conn)
{
	struct kvmi_msg_hdr hdr;
	int r;

	while (conn->end - conn->start >= sizeof(hdr)) {
		const __u8 *at = conn->buf + conn->start;

		memcpy(&hdr, at, sizeof(hdr));
		if (hdr.size > KVMI_MSG_SIZE)
			return nonsense(conn, "message of size", hdr.size);
		if (conn->end - conn->start < sizeof(hdr) + hdr.size)
			break;

		conn->start += sizeof(hdr) + hdr.size;
		r = take_message(conn, &hdr, at + sizeof(hdr));
		if (r)
			return r;
	}

	/* What is left is less than a message. */
	memmove(conn->buf, conn->buf + conn->start, conn->end - conn->start);
	conn->end -= conn->start;
	conn->start = 0;

	return 0;
}

static int receive(struct kvmi_conn *conn)
{
	ssize_t n;

	n = recv(conn->sock, conn->buf + conn->end, sizeof(conn->buf) - conn->end, MSG_DONTWAIT);
	if (n > 0) {
		conn->end += n;
		return take_messages(conn);
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;

	return lost(conn);
}

/*
 * Wait until something was received (or, with POLLOUT in @events, may be sent)
 * and deal with it. @deadline is as kvmi_now_ms() tells the time; negative: none.
 */
static int wait_for(struct kvmi_conn *conn, short events, __s64 deadline)
{
	struct pollfd pfd[] = {
		{ .fd = conn->sock, .events = events },
		{ .fd = conn->interrupt, .events = POLLIN },
	};
	__s64 left = deadline < 0 ? -1 : deadline - kvmi_now_ms();
	int n;

	if (conn->sock < 0)
		return kvmi_fail(conn, ECONNRESET, KVMI_FAILURE_NO_VM, "not connected");

	if (deadline >= 0 && left < 0)
		left = 0;

	n = poll(pfd, ARRAY_SIZE(pfd), left > 3600000 ? 3600000 : left);
	if (n < 0 && errno != EINTR)
		return kvmi_fail(conn, errno, KVMI_FAILURE_OTHER, "poll: %s", strerror(errno));
	if (n <= 0)
		return deadline < 0 || kvmi_now_ms() < deadline ? 0 :
			kvmi_fail(conn, ETIMEDOUT, KVMI_FAILURE_TIMEOUT, "no answer in time");
	if (pfd[1].revents)
		return kvmi_fail(conn, EINTR, KVMI_FAILURE_INTERRUPTED, "interrupted");
	if (pfd[0].revents & (POLLIN | POLLHUP | POLLERR))
		return receive(conn);

	return 0;
}

int kvmi_pump(struct kvmi_conn *conn, __s64 deadline)
{
	return wait_for(conn, POLLIN, deadline);
}

static void advance(struct msghdr *msg, size_t sent)
{
	while (msg->msg_iovlen && sent >= msg->msg_iov->iov_len) {
		sent -= msg->msg_iov->iov_len;
		msg->msg_iov++;
		msg->msg_iovlen--;
	}
	if (sent) {
		msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + sent;
		msg->msg_iov->iov_len -= sent;
	}
}

/* Send a message; what KVM sends meanwhile is received, so that neither side blocks. */
int kvmi_send(struct kvmi_conn *conn, struct iovec *iov, int n)
{
	__s64 deadline = kvmi_now_ms() + conn->timeout;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n };
	bool begun = false;
	ssize_t sent;
	int r = 0;

	while (msg.msg_iovlen && !r) {
		if (conn->sock < 0)
			return kvmi_fail(conn, ECONNRESET, KVMI_FAILURE_NO_VM, "not connected");

		sent = sendmsg(conn->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0) {
			begun = true;
			advance(&msg, sent);
		} else if (errno == EAGAIN || errno == EINTR) {
			r = wait_for(conn, POLLIN | POLLOUT, deadline);
		} else {
			/* What came before the end still counts. */
			do {
				r = receive(conn);
			} while (!r);
		}
	}

	/* Half a message: nothing that follows would be understood. */
	if (r && begun && conn->sock >= 0) {
		close(conn->sock);
		conn->sock = -1;
	}

	return r;
}

/*
 * Send a command: call->id, reply and reply_size are set, @iov[0] is free for
 * the header. Until the reply came, @call is in use: kvmi_call_wait() or
 * kvmi_call_forget().
 */
int kvmi_call_send(struct kvmi_conn *conn, struct kvmi_call *call, struct iovec *iov, int n)
{
	struct kvmi_msg_hdr hdr = { .id = call->id };
	size_t size = 0;
	int i, r;

	for (i = 1; i < n; i++)
		size += iov[i].iov_len;
	if (size > KVMI_MSG_SIZE)
		return kvmi_fail(conn, EMSGSIZE, KVMI_FAILURE_OTHER, "the message is too long");

	hdr.size = size;
	hdr.seq = ++conn->seq;
	iov[0].iov_base = &hdr;
	iov[0].iov_len = sizeof(hdr);

	call->seq = hdr.seq;
	call->done = false;
	call->err = 0;
	call->next = conn->calls;
	conn->calls = call;

	r = kvmi_send(conn, iov, n);
	if (r)
		kvmi_call_forget(conn, call);
	return r;
}

/* Returns 0 when the reply came: call->err has what it says. */
int kvmi_call_wait(struct kvmi_conn *conn, struct kvmi_call *call, __s64 deadline)
{
	int r = 0;

	while (!call->done && !r)
		r = kvmi_pump(conn, deadline);

	/* The last bytes before the end of the connection may have had it. */
	if (call->done)
		return 0;

	kvmi_call_forget(conn, call);
	return r;
}

void kvmi_call_forget(struct kvmi_conn *conn, struct kvmi_call *call)
{
	struct kvmi_call **link;

	for (link = &conn->calls; *link; link = &(*link)->next) {
		if (*link == call) {
			*link = call->next;
			return;
		}
	}
}
