// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi serve SOCKET -- COMMAND: a command of its own for each VM that comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve.h"

/* COMMAND --socket FD [ARGUMENT...], and the options that are for all of kvmi */
static char **make_arguments(const struct serve *serve, char *number)
{
	size_t nr, n = 0;
	char **argv;

	for (nr = 0; serve->command[nr]; nr++)
		;
	argv = calloc(nr + 5, sizeof(*argv));
	if (!argv)
		return NULL;
	argv[n++] = "kvmi";
	argv[n++] = "--socket";
	argv[n++] = number;
	if (serve->tool->json)
		argv[n++] = "--json";
	memcpy(argv + n, serve->command, nr * sizeof(*argv));
	return argv;
}

static void become_command(const struct serve *serve, const struct guest *guest, int sock)
{
	const struct hello *hello = &guest->greeting.hello;
	char number[16], uuid[KVMI_UUID_TEXT];
	char **argv;
	sigset_t set;

	snprintf(number, sizeof(number), "%d", sock);
	argv = make_arguments(serve, number);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	/* The end of serve ends the connection anyway. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(sock, F_SETFD, 0);
	setenv("KVMI_NAME", hello->name, 1);
	setenv("KVMI_UUID", kvmi_uuid_text(hello->uuid, uuid), 1);
	if (argv)
		execv("/proc/self/exe", argv);
	note("cannot run kvmi %s: %s", serve->command[0], strerror(errno));
	_exit(STATUS_FAILED);
}

void run_for_guest(struct serve *serve, struct guest *guest)
{
	struct client *client = NULL;
	pid_t pid = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		report(serve, guest, "failed", "socketpair: %s", strerror(errno));
		return;
	}

	fflush(stdout);
	pid = fork();
	if (!pid)
		become_command(serve, guest, pair[1]);
	close(pair[1]);
	if (pid > 0)
		client = client_new(serve, pair[0], pid);
	if (!client) {
		/* The command, if there is one, finds nobody there. */
		report(serve, guest, "failed", "cannot run kvmi %s: %s", serve->command[0],
		       strerror(errno));
		close(pair[0]);
		return;
	}
	client->guest = guest;
	guest->client = client;
}
