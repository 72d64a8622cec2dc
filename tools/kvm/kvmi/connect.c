// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: get at the VM.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "tool.h"

/* Seconds since some time */
double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Like the other functions here: 0, or the exit code after having said why */
int find_vm(struct tool *tool)
{
	tool->conn = kvmi_new();
	if (!tool->conn || (tool->which && kvmi_find_vm(tool->conn, tool->which, &tool->vm)))
		return fail_conn(tool);

	kvmi_set_timeout(tool->conn, tool->timeout);
	return 0;
}

int connect_vm(struct tool *tool)
{
	struct kvmi_get_version_reply version;
	int r = find_vm(tool);

	if (!r && tool->deadline && !tool->which)
		r = fail(tool, STATUS_USAGE, "with --socket it is the VMM that sets the deadline");
	if (!r && tool->deadline && *tool->vm.served)
		r = fail(tool, STATUS_USAGE,
			 "of a VM that is served it is the VMM that sets the deadline: reply-deadline of QEMU's object");
	if (r)
		return r;

	if (tool->which)
		r = kvmi_attach(tool->conn, &tool->vm);
	else
		r = kvmi_adopt(tool->conn, tool->socket);
	if (!r)
		r = kvmi_get_version(tool->conn, &version);
	if (r)
		return fail_conn(tool);

	if (version.version != KVMI_VERSION)
		return fail(tool, STATUS_FAILED, "KVM speaks version %u of the protocol, not %u",
			    version.version, KVMI_VERSION);

	return 0;
}

/* Stop vCPUs so that they can carry out commands; those that cannot are told. */
int pause_vm(struct tool *tool, int vcpu)
{
	int r = kvmi_pause(tool->conn, vcpu);

	if (!r)
		r = kvmi_wait_paused(tool->conn, tool->timeout);
	if (r < 0)
		return fail_conn(tool);
	if (r)
		note("%d vCPU%s not run: the VMM has stopped the VM", r, r == 1 ? " does" : "s do");

	return 0;
}

/* Is there the vCPU that the user named? @vcpus: out: how many there are */
int check_vcpu(struct tool *tool, unsigned int *vcpus)
{
	if (kvmi_get_vcpu_count(tool->conn, vcpus))
		return fail_conn(tool);
	if (tool->vcpu >= (int)*vcpus)
		return fail(tool, STATUS_USAGE, "there is no vCPU %d: the VM has %u", tool->vcpu,
			    *vcpus);
	return 0;
}

/* Does KVM know the event? That the VMM does not allow it shows later. */
int check_event(struct tool *tool, __u16 event)
{
	int r = kvmi_check_event(tool->conn, event);

	if (r == -ENOENT)
		return fail(tool, STATUS_NO_SUPPORT,
			    "this kernel does not have the event %s: 'kvmi info' shows those it has",
			    kvmi_event_name(event));
	return r && r != -EPERM ? fail_conn(tool) : 0;
}

/* From now on the signals to end are seen by the library: -EINTR. */
int catch_signals(struct tool *tool)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		return fail(tool, STATUS_FAILED, "signalfd: %s", strerror(errno));

	kvmi_set_interrupt(tool->conn, fd);
	return 0;
}
