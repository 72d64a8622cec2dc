// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: the VMs that 'kvmi serve' has the connections of.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"
#include "served.h"

/* Of a kvmi serve that does not answer: it is not to hold up the others. */
#define PATIENCE	2

/* Nobody is the owner of more. */
#define VMS_MAX		65536

/*
 * Waits in what follows are ended by an answer, by the end of the other process,
 * or by PATIENCE. A signal ends them as if it did not answer.
 */
static int connect_server(const char *path)
{
	struct timeval patience = { .tv_sec = PATIENCE };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));

	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr))) {
		int err = errno;

		close(sock);
		return -err;
	}
	return sock;
}

static bool receive(int sock, void *data, size_t size)
{
	return recv(sock, data, size, MSG_WAITALL) == (ssize_t)size;
}

/* Returns the socket, or a negative errno */
static int ask(const char *path, __u32 op, __u32 id, struct served_reply *reply)
{
	struct served_request request = { .magic = SERVED_MAGIC, .op = op, .id = id };
	int sock = connect_server(path);

	if (sock < 0)
		return sock;
	if (send(sock, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request) &&
	    receive(sock, reply, sizeof(*reply)) && reply->magic == SERVED_MAGIC)
		return sock;

	close(sock);
	return -EPROTO;
}

/* The one that /proc has told of, or a new one; NULL without memory */
static struct kvmi_vm *find_or_add(struct kvmi_vms *vms, pid_t pid)
{
	struct kvmi_vm *vm;
	size_t i;

	for (i = 0; pid && i < vms->nr; i++)
		if (vms->vm[i].pid == pid && !vms->vm[i].several && !*vms->vm[i].served)
			return &vms->vm[i];

	vm = realloc(vms->vm, (vms->nr + 1) * sizeof(*vm));
	if (!vm)
		return NULL;
	vms->vm = vm;
	vm += vms->nr++;
	*vm = (struct kvmi_vm){ .pid = pid, .fd = -1, .vcpus = -1 };
	return vm;
}

static int add_served(struct kvmi_vms *vms, const char *path, const struct served_vm *served)
{
	struct kvmi_vm *vm = find_or_add(vms, served->pid);

	if (!vm)
		return -ENOMEM;

	/* Both have the same size. */
	memcpy(vm->served, path, strlen(path) + 1);
	vm->id = served->id;
	vm->user = served->user;
	vm->start_time = served->start_time;
	memcpy(vm->uuid, served->uuid, sizeof(vm->uuid));
	if (*served->name)
		snprintf(vm->name, sizeof(vm->name), "%.*s", (int)sizeof(served->name) - 1,
			 served->name);
	return 0;
}

static int list_server(struct kvmi_vms *vms, const char *path)
{
	struct served_reply reply;
	struct served_vm vm;
	int sock = ask(path, SERVED_LIST, 0, &reply);
	int r = 0;
	__u32 i;

	/* Left over, somebody else's, or gone this moment */
	if (sock < 0)
		return 0;
	for (i = 0; i < reply.value && i < VMS_MAX && !r && receive(sock, &vm, sizeof(vm)); i++)
		r = add_served(vms, path, &vm);
	close(sock);

	return r;
}

/* Add the VMs that are served; 0 or -ENOMEM */
int kvmi_add_served(struct kvmi_vms *vms)
{
	char dir_path[PATH_MAX], path[sizeof(((struct kvmi_vm *)0)->served)];
	struct dirent *entry;
	int r = 0;
	DIR *dir;

	if (!kvmi_run_dir(dir_path, sizeof(dir_path), false))
		return 0;
	dir = opendir(dir_path);
	if (!dir)
		return 0;

	while (!r && (entry = readdir(dir))) {
		int n;

		if (strncmp(entry->d_name, KVMI_SERVE_PREFIX, strlen(KVMI_SERVE_PREFIX)))
			continue;
		n = snprintf(path, sizeof(path), "%s/%s", dir_path, entry->d_name);
		if (n > 0 && n < (int)sizeof(path))
			r = list_server(vms, path);
	}
	closedir(dir);

	return r;
}

/* Become the user of the connection; 0 or a negative errno */
int kvmi_use_served(struct kvmi_conn *conn, const struct kvmi_vm *vm)
{
	struct timeval none = { 0 };
	struct served_reply reply;
	int sock = ask(vm->served, SERVED_USE, vm->id, &reply);

	if (sock < 0)
		return kvmi_fail(conn, -sock, KVMI_FAILURE_NO_VM, "'kvmi serve' at %s: %s",
				 vm->served, strerror(-sock));
	if (!reply.err) {
		setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
		setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
		conn->sock = sock;
		/* What is still to come for others has lower numbers. */
		conn->seq = reply.value;
		return 0;
	}

	close(sock);
	if (reply.err == EBUSY)
		return kvmi_fail(conn, EBUSY, KVMI_FAILURE_IN_USE,
				 "the VM is in use by another tool (process %u)", reply.value);
	return kvmi_fail(conn, ESRCH, KVMI_FAILURE_NO_VM,
			 "the VM is gone: its VMM has left 'kvmi serve'");
}

/**
 * kvmi_uuid_text - write a UUID in the usual way
 * @uuid: the UUID
 * @text: out, KVMI_UUID_TEXT bytes
 *
 * Return: @text
 */
const char *kvmi_uuid_text(const __u8 *uuid, char *text)
{
	snprintf(text, KVMI_UUID_TEXT,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 uuid[0], uuid[1], uuid[2], uuid[3], uuid[4], uuid[5], uuid[6], uuid[7], uuid[8],
		 uuid[9], uuid[10], uuid[11], uuid[12], uuid[13], uuid[14], uuid[15]);
	return text;
}
