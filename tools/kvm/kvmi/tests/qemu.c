// SPDX-License-Identifier: GPL-2.0
/*
 * A VMM that comes to 'kvmi serve', and hands over to the fake of KVM.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "test.h"

static void put(__u8 *at, unsigned long long value, size_t size)
{
	memcpy(at, &value, size);
}

/* As Documentation/virt/kvm/kvmi-qemu.rst has it, and not as the tool's header does */
size_t qemu_hello(const struct qemu *qemu, __u8 *hello)
{
	size_t i;

	memset(hello, 0xee, qemu->size > 144 ? qemu->size : 144);
	memset(hello, 0, 144);
	put(hello, qemu->size, 4);
	memset(hello + 4, qemu->number, 16);
	put(hello + 24, 1700000000, 8);
	memcpy(hello + 32, qemu->name, strlen(qemu->name));
	put(hello + 96, 0x100000000, 8);
	put(hello + 104, qemu->auth, 4);
	for (i = 0; i < 32; i++)
		hello[112 + i] = i;
	return qemu->size;
}

int qemu_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, path, strlen(path));
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)))
		exit(2);
	return sock;
}

static bool receive(int sock, void *data, size_t size)
{
	return recv(sock, data, size, MSG_WAITALL) == (ssize_t)size;
}

/* Returns true if the tool says what it should, and not a byte more before KVM's. */
bool qemu_greet(const struct qemu *qemu, int sock)
{
	__u8 hello[70000], reply[256] = { 0 }, wanted[256] = { 24 };
	size_t size = qemu_hello(qemu, hello), n = qemu->split ?: size;
	size_t want = qemu->reply ? qemu->reply_size : 24;

	if (qemu->reply)
		memcpy(wanted, qemu->reply, want);
	if (send(sock, hello, n, MSG_NOSIGNAL) != (ssize_t)n)
		return false;
	/* So that it finds the first part alone */
	if (n < size)
		usleep(2000);
	if (n < size && send(sock, hello + n, size - n, MSG_NOSIGNAL) != (ssize_t)(size - n))
		return false;
	return receive(sock, reply, want) && !memcmp(reply, wanted, want);
}

/* Ends like the fake does, with 3 if it does not like the tool. */
pid_t qemu_start(const struct qemu *qemu, const char *path, const struct fake *fake)
{
	pid_t pid;
	int sock;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;

	alarm(60);
	sock = qemu_connect(path);
	if (!qemu_greet(qemu, sock))
		_exit(3);
	fake_be(fake, sock);
	_exit(0);
}
