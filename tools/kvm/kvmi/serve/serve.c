// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve.h"

/* How long nobody is let in when there are no means to, ms */
#define REST	1000

/* More of them than any host has */
#define GUESTS_MAX	4096
#define CLIENTS_MAX	4096

/**
 * struct loop - what is waited for
 * @serve: see there
 * @where: socket that VMMs come to
 * @guests: the same, listening
 * @control: path of the one for commands
 * @clients: the same, listening
 * @signals: signalfd
 * @resting: nobody is let in until then
 * @ending: a signal came
 * @fds: for poll()
 * @room: size of that
 */
struct loop {
	struct serve serve;
	const char *where;
	int guests;
	char control[PATH_MAX];
	int clients;
	int signals;
	__s64 resting;
	bool ending;
	struct pollfd *fds;
	size_t room;
};

__s64 time_ms(void)
{
	return now() * 1000;
}

/* Somebody came; returns false when there are no means to let anybody in now. */
static bool let_in(struct loop *loop, int listening, size_t nr, size_t max)
{
	struct serve *serve = &loop->serve;
	char why[64];
	bool good;
	pid_t pid;
	int fd;

	fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
	if (!peer_is_welcome(fd, &pid, why, sizeof(why))) {
		note("%s", why);
		close(fd);
		return true;
	}

	if (nr >= max)
		good = false;
	else if (listening == loop->guests)
		good = guest_new(serve, fd, pid);
	else
		good = client_new(serve, fd, pid);
	if (!good) {
		note("too many connections: process %d was turned away", pid);
		close(fd);
	}
	return good;
}

static void add_fd(struct pollfd **fd, int number, short events)
{
	*(*fd)++ = (struct pollfd){ .fd = number, .events = events };
}

static short guest_events(const struct guest *guest)
{
	return POLLIN | (guest->stream.queued ? POLLOUT : 0);
}

static short client_events(const struct client *client)
{
	bool full = stream_is_full(&client->stream) ||
		    (client->guest && stream_is_full(&client->guest->stream));

	return (full ? 0 : POLLIN) | (client->stream.queued ? POLLOUT : 0);
}

static void guest_polled(struct serve *serve, struct guest *guest, short events)
{
	if (events & POLLOUT && guest->state != GUEST_GONE)
		guest_writable(serve, guest);
	if (events & (POLLIN | POLLHUP | POLLERR) && guest->state != GUEST_GONE)
		guest_readable(serve, guest);
}

static void client_polled(struct serve *serve, struct client *client, short events)
{
	if (client->gone)
		return;
	if (events & POLLOUT)
		stream_flush(&client->stream);
	/* Also what it has sent last before it ended */
	if (events & POLLIN)
		client_readable(serve, client);
	else if (events & (POLLHUP | POLLERR))
		client_end(serve, client);
}

/* Returns how many there are left. */
static size_t sweep_guests(struct serve *serve)
{
	struct guest *guest, **link = &serve->guests;
	size_t nr = 0;

	while ((guest = *link)) {
		if (guest->state == GUEST_GONE) {
			*link = guest->next;
			guest_free(guest);
		} else {
			link = &guest->next;
			nr++;
		}
	}
	return nr;
}

static size_t sweep_clients(struct serve *serve)
{
	struct client *client, **link = &serve->clients;
	size_t nr = 0;

	while ((client = *link)) {
		if (client->gone) {
			*link = client->next;
			if (client->guest)
				guest_release(serve, client->guest);
			client_free(client);
		} else {
			link = &client->next;
			nr++;
		}
	}
	return nr;
}

/* What is to be done by the clock; returns when there is the next of it, 0: never. */
static __s64 tick(struct loop *loop)
{
	struct serve *serve = &loop->serve;
	__s64 time = time_ms(), next = 0, wakes;
	struct client *client;
	struct guest *guest;

	for (guest = serve->guests; guest; guest = guest->next) {
		guest_tick(serve, guest, time);
		wakes = guest->state == GUEST_GONE ? 0 : guest_wakes(guest);
		if (wakes && (!next || wakes < next))
			next = wakes;
	}
	for (client = serve->clients; client; client = client->next) {
		if (client->guest)
			continue;
		client->gone |= time >= client->deadline;
		if (!next || client->deadline < next)
			next = client->deadline;
	}
	if (loop->resting && time >= loop->resting)
		loop->resting = 0;
	if (loop->resting && (!next || loop->resting < next))
		next = loop->resting;
	return next;
}

static void end(struct loop *loop)
{
	struct guest *guest;

	loop->ending = true;
	for (guest = loop->serve.guests; guest; guest = guest->next)
		guest_leave(guest);
}

/* Returns false if it is the second time that we are told to end. */
static bool take_signals(struct loop *loop)
{
	struct signalfd_siginfo info;
	bool told;

	while (read(loop->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			continue;
		}
		told = loop->ending;
		end(loop);
		if (told)
			return false;
	}
	return true;
}

/* Returns how many are waited for, -1: no memory. */
static ssize_t make_fds(struct loop *loop, size_t guests, size_t clients)
{
	size_t nr = 3 + guests + clients;
	struct pollfd *fd = loop->fds;
	struct client *client;
	struct guest *guest;
	bool closed = loop->ending || loop->resting;

	if (nr > loop->room) {
		fd = realloc(fd, 2 * nr * sizeof(*fd));
		if (!fd)
			return -1;
		loop->fds = fd;
		loop->room = 2 * nr;
	}
	add_fd(&fd, loop->signals, POLLIN);
	add_fd(&fd, closed ? -1 : loop->guests, POLLIN);
	add_fd(&fd, closed ? -1 : loop->clients, POLLIN);
	for (guest = loop->serve.guests; guest; guest = guest->next)
		add_fd(&fd, guest->stream.fd, guest_events(guest));
	for (client = loop->serve.clients; client; client = client->next)
		add_fd(&fd, client->stream.fd, client_events(client));
	return nr;
}

/* Everything that poll() has found; VMs before the commands that ask for them. */
static bool handle(struct loop *loop, size_t guests, size_t clients)
{
	const struct pollfd *fd = loop->fds + 3;
	struct serve *serve = &loop->serve;
	struct client *client;
	struct guest *guest;
	bool let = true;

	for (guest = serve->guests; guest; guest = guest->next)
		guest_polled(serve, guest, fd++->revents);
	/* A command that was run meanwhile is the first in the list, and was not asked. */
	for (client = serve->clients; client && fd < loop->fds + 3 + guests + clients;
	     client = client->next)
		if (client->stream.fd == fd->fd)
			client_polled(serve, client, fd++->revents);
	if (loop->fds[1].revents)
		let = let_in(loop, loop->guests, guests, GUESTS_MAX);
	if (loop->fds[2].revents && let)
		let = let_in(loop, loop->clients, clients, CLIENTS_MAX);
	if (!let)
		loop->resting = time_ms() + REST;
	return !loop->fds[0].revents || take_signals(loop);
}

/* Returns the exit code. */
static int serve_all(struct loop *loop)
{
	struct serve *serve = &loop->serve;
	size_t guests, clients;
	__s64 next, left;
	ssize_t nr;

	for (;;) {
		next = tick(loop);
		clients = sweep_clients(serve);
		guests = sweep_guests(serve);
		if (loop->ending && !guests)
			return STATUS_OK;

		nr = make_fds(loop, guests, clients);
		if (nr < 0)
			return fail(serve->tool, STATUS_FAILED, "out of memory");
		left = next - time_ms();
		if (left < 0)
			left = 0;
		/*
		 * The only wait: for VMMs and KVM, for commands, and for what the clock
		 * brings. The signals to end are among the file descriptors; others
		 * are as if nothing had happened.
		 */
		if (poll(loop->fds, nr, next ? left + 1 : -1) < 0) {
			if (errno == EINTR)
				continue;
			return fail(serve->tool, STATUS_FAILED, "poll: %s", strerror(errno));
		}
		if (!handle(loop, guests, clients))
			return STATUS_OK;
	}
}

/* Who has started us may have had it ignored: with nohup, or in the background. */
static void add_signal(sigset_t *set, int sig)
{
	struct sigaction action;

	if (sigaction(sig, NULL, &action) || action.sa_handler != SIG_IGN)
		sigaddset(set, sig);
}

static int catch(struct loop *loop)
{
	sigset_t set;

	sigemptyset(&set);
	add_signal(&set, SIGINT);
	add_signal(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	loop->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return loop->signals < 0 ? fail(loop->serve.tool, STATUS_FAILED, "signalfd: %s",
					strerror(errno)) : 0;
}

static int make_run_dir(struct loop *loop)
{
	if (kvmi_run_dir(loop->control, sizeof(loop->control), true))
		return 0;
	return fail(loop->serve.tool, STATUS_FAILED,
		    "no directory to meet commands in: XDG_RUNTIME_DIR is not set");
}

/* Where commands find us: for the same user only */
static int open_control(struct loop *loop)
{
	struct tool *tool = loop->serve.tool;
	size_t len, size = sizeof(loop->control);

	len = strlen(loop->control);
	snprintf(loop->control + len, size - len, "/%s%d", KVMI_SERVE_PREFIX, getpid());
	loop->clients = listen_at(tool, loop->control, 0177);
	return loop->clients < 0 ? STATUS_FAILED : 0;
}

static void allow_many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void free_all(struct loop *loop)
{
	struct serve *serve = &loop->serve;
	struct client *client;
	struct guest *guest;

	while ((client = serve->clients)) {
		serve->clients = client->next;
		client_free(client);
	}
	while ((guest = serve->guests)) {
		serve->guests = guest->next;
		guest_free(guest);
	}
	free(loop->fds);
	explicit_bzero(&serve->key, sizeof(serve->key));
}

static int run(struct tool *tool, int argc, char **argv)
{
	struct loop loop = {
		.serve = { .tool = tool, .key.hmac_only = tool->hmac_only,
			   .command = argc > 1 ? argv + 1 : NULL },
		.where = argv[0], .guests = -1, .clients = -1, .signals = -1,
	};
	int r = 0;

	if (tool->key)
		r = key_load(tool, tool->key, &loop.serve.key);
	else if (tool->hmac_only)
		r = fail(tool, STATUS_USAGE, "--hmac says how to prove the --key: there is none");
	if (r)
		return r;

	allow_many_files();
	/* It may be where VMMs come to, too. */
	r = catch(&loop) ?: make_run_dir(&loop);
	if (!r) {
		loop.guests = listen_at(tool, loop.where, 0);
		r = loop.guests < 0 ? STATUS_FAILED : open_control(&loop);
	}
	if (!r) {
		if (!tool->json)
			note("waiting for VMs at %s, ^C ends", loop.where);
		r = serve_all(&loop);
	}

	stop_listening(loop.where, loop.guests);
	stop_listening(loop.control, loop.clients);
	free_all(&loop);
	return r;
}

const struct command command_serve = {
	.name = "serve",
	.operands = "SOCKET [-- COMMAND...]",
	.min = 1,
	.max = INT_MAX,
	.options = "kH",
	.brief = "be the tool that VMMs with an introspection object come to",
	.help =
	"SOCKET is the path of a Unix socket, or vsock:PORT. QEMU's '-object introspection'\n"
	"connects there, as many VMs as there are, each again after a reset. Nothing is\n"
	"done to them by this, but as long as it runs the other commands find them, by the\n"
	"name, the UUID or the PID that 'kvmi list' shows: 'kvmi regs NAME' is as ever,\n"
	"with what the VMM allows. One command can use a VM at a time. When it ends the VM\n"
	"goes on as if nobody watched; if it was killed and has left something switched\n"
	"on, KVM puts that right, for which QEMU has to connect once more.\n"
	"With COMMAND, each VM that comes has that command run: '-- protect --log'. In its\n"
	"environment are KVMI_NAME and KVMI_UUID. --socket and the VM are left out.\n"
	"When the VMM wants the VM left alone, before it stops or migrates it for example,\n"
	"the VM is left at once; a command that uses it is told, and has 2 seconds.\n"
	"Whether QEMU believes us is up to the key that its object has: --key is the file\n"
	"that its 'secret' object is given; all bytes count. A QEMU that offers HMAC gets\n"
	"that, an older one a hash that can be replayed, or with --hmac no proof.\n"
	"Commands find it in /run/kvmi, or $XDG_RUNTIME_DIR/kvmi for other users than root:\n"
	"both have to be run by the same user. Who may connect to SOCKET is a matter of the\n"
	"umask. One line a VM and what happens to it. Ends with ^C.\n",
	.run = run,
};
