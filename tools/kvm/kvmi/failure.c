// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: failures, for people and for machines.
 */
#include <stdarg.h>
#include <unistd.h>

#include "tool.h"

static const char * const status_names[] = {
	[STATUS_NOTHING] = "nothing",
	[STATUS_USAGE] = "usage",
	[STATUS_NO_VM] = "no-vm",
	[STATUS_PERMISSION] = "permission",
	[STATUS_OFF] = "off",
	[STATUS_NO_SUPPORT] = "no-support",
	[STATUS_IN_USE] = "in-use",
	[STATUS_PROTECTED] = "protected",
	[STATUS_TIMEOUT] = "timeout",
	[STATUS_FAILED] = "failed",
};

/* Say what went wrong; returns the exit code @status. */
int fail(struct tool *tool, int status, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	fflush(stdout);
	fprintf(stderr, "kvmi: %s\n", text);
	if (tool->json) {
		/* What was begun is ended: a reader gets whole values. */
		while (tool->out.depth)
			json_end(&tool->out);
		json_object(&tool->out, NULL);
		json_object(&tool->out, "error");
		json_number(&tool->out, "code", status);
		json_string(&tool->out, "name", status_names[status]);
		json_string(&tool->out, "text", text);
		json_end(&tool->out);
		json_end(&tool->out);
	}

	return status;
}

/* The same for what the library says. */
int fail_conn(struct tool *tool)
{
	static const int status[] = {
		[KVMI_FAILURE_OTHER] = STATUS_FAILED,
		[KVMI_FAILURE_NO_VM] = STATUS_NO_VM,
		[KVMI_FAILURE_AMBIGUOUS] = STATUS_USAGE,
		[KVMI_FAILURE_PERMISSION] = STATUS_PERMISSION,
		[KVMI_FAILURE_OFF] = STATUS_OFF,
		[KVMI_FAILURE_NO_SUPPORT] = STATUS_NO_SUPPORT,
		[KVMI_FAILURE_IN_USE] = STATUS_IN_USE,
		[KVMI_FAILURE_PROTECTED] = STATUS_PROTECTED,
		[KVMI_FAILURE_TIMEOUT] = STATUS_TIMEOUT,
		[KVMI_FAILURE_INTERRUPTED] = STATUS_FAILED,
	};
	enum kvmi_failure failure = kvmi_failure(tool->conn);

	if (failure == KVMI_FAILURE_IN_USE && tool->vm.pid) {
		pid_t holder = holder_find(tool, NULL);

		if (holder)
			return fail(tool, STATUS_IN_USE,
				    "the VM is held by 'kvmi pause' (process %d): 'kvmi resume %s' ends that",
				    holder, tool->which);
	}

	return fail(tool, status[failure], "%s", kvmi_strerror(tool->conn));
}

/* Something to know, on the side. */
void note(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("kvmi: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}
