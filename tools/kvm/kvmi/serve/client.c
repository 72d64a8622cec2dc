// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: the commands that use what is served.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serve.h"

/* For the request, ms */
#define REQUEST_TIME	2000

struct client *client_new(struct serve *serve, int fd, pid_t pid)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;

	client->pid = pid;
	client->deadline = time_ms() + REQUEST_TIME;
	stream_init(&client->stream, fd);
	client->next = serve->clients;
	serve->clients = client;

	return client;
}

void client_free(struct client *client)
{
	stream_close(&client->stream);
	free(client);
}

void client_end(struct serve *serve, struct client *client)
{
	client->gone = true;
	if (client->guest)
		guest_release(serve, client->guest);
}

static bool reply(struct client *client, __u32 err, __u32 value)
{
	struct served_reply reply = { .magic = SERVED_MAGIC, .err = err, .value = value };

	return stream_send(&client->stream, &reply, sizeof(reply));
}

static bool send_vm(struct client *client, const struct guest *guest)
{
	const struct hello *hello = &guest->greeting.hello;
	struct served_vm vm = {
		.id = guest->id,
		.pid = guest->pid,
		.user = guest->client ? guest->client->pid : 0,
		.start_time = hello->start_time,
	};

	memcpy(vm.uuid, hello->uuid, sizeof(vm.uuid));
	memcpy(vm.name, hello->name, sizeof(vm.name));
	return stream_send(&client->stream, &vm, sizeof(vm));
}

static bool list(const struct serve *serve, struct client *client)
{
	const struct guest *guest;
	__u32 nr = 0;
	bool good;

	for (guest = serve->guests; guest; guest = guest->next)
		nr += guest->state == GUEST_READY;
	good = reply(client, 0, nr);
	for (guest = serve->guests; guest && good; guest = guest->next)
		if (guest->state == GUEST_READY)
			good = send_vm(client, guest);
	return good;
}

static bool use(const struct serve *serve, struct client *client, __u32 id)
{
	struct guest *guest;

	for (guest = serve->guests; guest; guest = guest->next)
		if (guest->id == id && guest->state == GUEST_READY)
			break;
	if (!guest)
		return reply(client, ENOENT, 0);
	if (guest->client)
		return reply(client, EBUSY, guest->client->pid);

	client->guest = guest;
	guest->client = client;
	return reply(client, 0, guest->seq);
}

/* Returns false if there is nothing more to talk about. */
static bool take_request(struct serve *serve, struct client *client)
{
	struct served_request request;

	memcpy(&request, client->stream.msg, sizeof(request));
	client->stream.have = 0;
	if (request.magic != SERVED_MAGIC)
		return false;
	switch (request.op) {
	case SERVED_LIST:
		return list(serve, client);
	case SERVED_USE:
		return use(serve, client, request.id);
	default:
		return reply(client, EINVAL, 0);
	}
}

/* Neither KVM nor the command itself is to be sent more than it reads. */
static bool may_go_on(const struct client *client)
{
	return !client->gone && client->guest && !stream_is_full(&client->stream) &&
	       !stream_is_full(&client->guest->stream);
}

void client_readable(struct serve *serve, struct client *client)
{
	int r = 0;

	if (!client->guest) {
		r = stream_read(&client->stream, sizeof(struct served_request));
		if (r < 0 || (r && !take_request(serve, client)))
			client->gone = true;
		return;
	}

	while (may_go_on(client) && (r = stream_read_message(&client->stream)) > 0) {
		guest_take(serve, client->guest, &client->stream.hdr);
		client->stream.have = 0;
	}
	if (r < 0 && !client->gone)
		client_end(serve, client);
}
