// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: connections that nobody waits for.
 *
 * Their sockets are not to block: what cannot be read or written now is left
 * for the next time that poll() says it can.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve.h"

void stream_init(struct stream *stream, int fd)
{
	memset(stream, 0, sizeof(*stream));
	stream->fd = fd;
}

void stream_close(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	free(stream->queue);
	stream->queue = NULL;
	stream->queued = 0;
	stream->sent = 0;
	stream->room = 0;
}

/* Fill the message up to @size: 1: it is, 0: not yet, -1: the connection ended. */
int stream_read(struct stream *stream, size_t size)
{
	while (stream->have < size) {
		ssize_t n = recv(stream->fd, stream->msg + stream->have, size - stream->have,
				 MSG_DONTWAIT);

		if (n > 0)
			stream->have += n;
		else if (n < 0 && errno == EAGAIN)
			return 0;
		else if (!n || errno != EINTR)
			return -1;
	}
	return 1;
}

/* The same for the next message of the protocol: -1, too, if it is none */
int stream_read_message(struct stream *stream)
{
	int r = stream_read(stream, sizeof(stream->hdr));

	if (r <= 0)
		return r;
	if (stream->hdr.size > KVMI_MSG_SIZE)
		return -1;
	return stream_read(stream, sizeof(stream->hdr) + stream->hdr.size);
}

static bool enqueue(struct stream *stream, const __u8 *data, size_t size)
{
	if (stream->sent) {
		stream->queued -= stream->sent;
		memmove(stream->queue, stream->queue + stream->sent, stream->queued);
		stream->sent = 0;
	}
	if (stream->room - stream->queued < size) {
		size_t room = 2 * (stream->queued + size);
		__u8 *queue = realloc(stream->queue, room);

		if (!queue)
			return false;
		stream->queue = queue;
		stream->room = room;
	}
	memcpy(stream->queue + stream->queued, data, size);
	stream->queued += size;
	return true;
}

/* Bytes that the socket took, -1: the connection ended */
static ssize_t send_some(int fd, const __u8 *data, size_t size)
{
	size_t sent = 0;

	while (sent < size) {
		ssize_t n = send(fd, data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			sent += n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			return -1;
	}
	return sent;
}

/* Returns false if it ended; without memory, too, with ENOMEM in errno. */
bool stream_send(struct stream *stream, const void *data, size_t size)
{
	ssize_t n = 0;

	if (!stream->queued)
		n = send_some(stream->fd, data, size);
	if (n < 0)
		return false;
	return (size_t)n == size || enqueue(stream, (const __u8 *)data + n, size - n);
}

/* What was queued: the same. If it ended there is nothing to send any more. */
bool stream_flush(struct stream *stream)
{
	ssize_t n = send_some(stream->fd, stream->queue + stream->sent,
			      stream->queued - stream->sent);

	if (n >= 0)
		stream->sent += n;
	if (n < 0 || stream->sent == stream->queued) {
		stream->sent = 0;
		stream->queued = 0;
	}
	return n >= 0;
}

bool stream_is_full(const struct stream *stream)
{
	return stream->queued - stream->sent > QUEUE_LIMIT;
}
