// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve: sockets to listen on.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "serve.h"

#define BACKLOG	64

static const char vsock_prefix[] = "vsock:";

/* The socket of one that was killed: nobody listens there. */
static bool is_left_over(const struct sockaddr_un *addr)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool left_over;

	left_over = sock >= 0 && connect(sock, (const struct sockaddr *)addr, sizeof(*addr)) &&
		    errno == ECONNREFUSED;
	close(sock);
	return left_over;
}

/* Returns the socket, or -1 with errno. */
static int bind_unix(const char *path, mode_t mask)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock, r, err;
	struct stat st;
	mode_t old;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(addr.sun_path, path, strlen(path));
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode) && is_left_over(&addr))
		unlink(path);

	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -1;
	old = umask(0);
	umask(old | mask);
	r = bind(sock, (struct sockaddr *)&addr, sizeof(addr)) ?: listen(sock, BACKLOG);
	err = errno;
	umask(old);
	if (!r)
		return sock;
	close(sock);
	errno = err;
	return -1;
}

static int bind_vsock(const char *port)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	__u64 n;
	int sock;

	if (!parse_number(port, &n) || n >= VMADDR_PORT_ANY) {
		errno = EINVAL;
		return -1;
	}
	addr.svm_port = n;
	sock = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -1;
	if (!bind(sock, (struct sockaddr *)&addr, sizeof(addr)) && !listen(sock, BACKLOG))
		return sock;
	close(sock);
	return -1;
}

static bool is_vsock(const char *where)
{
	return !strncmp(where, vsock_prefix, strlen(vsock_prefix));
}

/*
 * Listen there; what the umask and @mask have may not connect. Returns the socket,
 * -1 after having said why not.
 */
int listen_at(struct tool *tool, const char *where, mode_t mask)
{
	int sock = is_vsock(where) ? bind_vsock(where + strlen(vsock_prefix)) :
				     bind_unix(where, mask);

	if (sock < 0)
		fail(tool, STATUS_FAILED, "cannot listen at %s: %s%s", where, strerror(errno),
		     errno == EADDRINUSE ? ": it is there, and no left over socket" : "");
	return sock;
}

void stop_listening(const char *where, int sock)
{
	if (sock < 0)
		return;
	close(sock);
	if (!is_vsock(where))
		unlink(where);
}

/*
 * Who is at the other end? false: somebody who has no business here. Guests can
 * reach every vsock port of their host, and are no VMMs.
 */
bool peer_is_welcome(int sock, pid_t *pid, char *why, size_t size)
{
	struct sockaddr_storage addr;
	struct sockaddr_vm *vm = (struct sockaddr_vm *)&addr;
	struct ucred cred = { 0 };
	socklen_t len = sizeof(addr);

	*pid = 0;
	if (!getpeername(sock, (struct sockaddr *)&addr, &len) && addr.ss_family == AF_VSOCK) {
		snprintf(why, size, "the guest with CID %u is no VMM", vm->svm_cid);
		return vm->svm_cid <= VMADDR_CID_HOST;
	}

	len = sizeof(cred);
	if (!getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		*pid = cred.pid;
	return true;
}
