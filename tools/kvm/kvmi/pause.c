// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi pause, kvmi resume
 *
 * A VM stands still for as long as the one who paused it stays connected. So
 * there is always a process that holds it, and whatever becomes of that
 * process, the VM goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "tool.h"

static void say(struct tool *tool, const char *state, pid_t holder)
{
	if (tool->json) {
		json_object(&tool->out, NULL);
		json_string(&tool->out, "state", state);
		if (tool->vm.pid)
			json_number(&tool->out, "pid", tool->vm.pid);
		if (holder)
			json_number(&tool->out, "holder", holder);
		json_end(&tool->out);
	} else if (tool->vm.pid) {
		printf("%s: VM of process %d\n", state, tool->vm.pid);
	} else {
		printf("%s\n", state);
	}
	fflush(stdout);
}

/*
 * The parent goes with its copies of the socket and of the lock, the child
 * keeps them. Returns 0 in the child, its pid in the parent.
 */
static pid_t go_to_background(void)
{
	pid_t pid = fork();
	int null;

	if (pid)
		return pid;

	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (chdir("/"))
		return 0;
	return 0;
}

/*
 * Returns 0 when it is time to let go: a signal, the time is over, or the VMM asks
 * for it.
 */
static int hold(struct tool *tool)
{
	double end = tool->seconds > 0 ? now() + tool->seconds : 0, left;
	struct kvmi_event event;
	int r = 0;

	while (r >= 0) {
		int ms = 1000;

		if (end) {
			left = end - now();
			if (left <= 0)
				return 0;
			if (left < 1)
				ms = left * 1000 + 1;
		}
		r = kvmi_next_event(tool->conn, &event, ms);
		if (r > 0 && event.id == KVMI_VM_EVENT_UNHOOK)
			return 0;
		/* A vCPU may have been added. */
		if (!r)
			r = kvmi_pause(tool->conn, -1);
	}

	return r == -EINTR ? 0 : r;
}

static int run_pause(struct tool *tool, int argc, char **argv)
{
	int record, r;
	pid_t pid = 0;

	(void)argc;
	(void)argv;

	r = connect_vm(tool);
	if (!r)
		r = catch_signals(tool);
	if (r)
		return r;

	record = holder_record(tool);
	holder_write(record, getpid());
	if (record < 0 && tool->daemon)
		return fail(tool, STATUS_FAILED,
			    "cannot go to the background: no directory for the record that 'kvmi resume' needs");

	if (kvmi_pause(tool->conn, -1)) {
		holder_forget(tool, record);
		return fail_conn(tool);
	}

	if (tool->daemon) {
		pid = go_to_background();
		if (pid < 0) {
			holder_forget(tool, record);
			return fail(tool, STATUS_FAILED, "fork: %s", strerror(errno));
		}
		if (pid) {
			holder_write(record, pid);
			say(tool, "paused", pid);
			return STATUS_OK;
		}
	} else {
		say(tool, "paused", getpid());
		if (!tool->json && record >= 0)
			note("^C or 'kvmi resume %s' lets it go on", tool->which);
		else if (!tool->json)
			note("^C lets it go on");
	}

	r = hold(tool);
	if (!r)
		r = kvmi_resume(tool->conn);
	kvmi_close(tool->conn);
	holder_forget(tool, record);
	if (r)
		return fail_conn(tool);

	say(tool, "running", 0);
	return STATUS_OK;
}

const struct command command_pause = {
	.name = "pause",
	.operands = "",
	.vm = true,
	.options = "dS",
	.brief = "stop a VM's vCPUs, until ^C or 'kvmi resume'",
	.help =
	"When it says 'paused' no vCPU executes guest code. The VMM is not involved and\n"
	"not blocked: it can still stop, reset and quit the VM. It stands still for as\n"
	"long as this command runs: until ^C, 'kvmi resume', --seconds, or until it is\n"
	"killed, in whatever way. With --daemon it goes on in the background.\n"
	"The guest's clocks go on: after a long pause its watchdogs may complain.\n"
	"Only one tool can introspect a VM at a time: no other 'kvmi' command can look\n"
	"into a VM that is paused like this. 'kvmi regs' and 'kvmi dump' pause the VM\n"
	"themselves.\n"
	"A record of who holds the VM is kept in /run/kvmi, or $XDG_RUNTIME_DIR/kvmi for\n"
	"other users than root.\n",
	.run = run_pause,
};

static int run_resume(struct tool *tool, int argc, char **argv)
{
	int r, i, record = -1;
	pid_t pid;

	(void)argc;
	(void)argv;

	if (!tool->which)
		return fail(tool, STATUS_USAGE, "resume needs a VM");
	r = find_vm(tool);
	if (r)
		return r;

	pid = holder_find(tool, &record);
	if (!pid)
		return fail(tool, STATUS_NOTHING,
			    "the VM of process %d is not paused by 'kvmi pause'", tool->vm.pid);
	if (kill(pid, SIGTERM))
		return fail(tool, STATUS_PERMISSION, "cannot end 'kvmi pause' (process %d): %s",
			    pid, strerror(errno));

	/* It has let go of the VM when it has let go of its lock. */
	for (i = 0; i < 500; i++) {
		if (!flock(record, LOCK_EX | LOCK_NB)) {
			say(tool, "running", 0);
			return STATUS_OK;
		}
		usleep(10000);
	}

	return fail(tool, STATUS_TIMEOUT, "'kvmi pause' (process %d) does not end", pid);
}

const struct command command_resume = {
	.name = "resume",
	.operands = "",
	.vm = true,
	.options = "",
	.brief = "let a VM go on that 'kvmi pause' stopped",
	.help =
	"Ends the 'kvmi pause' that holds the VM and waits until it has ended. The exit\n"
	"code is 1 if there is none.\n",
	.run = run_resume,
};
