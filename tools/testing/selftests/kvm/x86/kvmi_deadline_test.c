// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the guest does not wait for a tool for longer than was set.
 */
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

#define SHORT_MS	30
#define LONG_MS		600000

KVMI_TEST_SUITE(kvmi_deadline, 1);

static void set_deadline(struct kvm_vm *vm, u32 timeout_ms, u32 max_missed)
{
	TEST_ASSERT_EQ(kvmi_deadline_errno(vm, timeout_ms, max_missed), 0);
}

static u64 missed(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, introspection_missed);
}

static void guest_hypercall_loop(void)
{
	for (;;)
		GUEST_SYNC(kvmi_guest_hypercall());
}

static void start_hypercalls(struct kvmi_tool *tool, struct kvmi_runner *runner,
			     struct kvm_vcpu *vcpu)
{
	vcpu_arch_set_entry_point(vcpu, guest_hypercall_loop);
	kvmi_enable_and_start(tool, runner, vcpu, KVMI_VCPU_EVENT_HYPERCALL);
}

static void expect_hypercall(struct kvmi_tool *tool, u32 seq, struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, ev);
	TEST_ASSERT_EQ(ev->hdr.seq, seq);
}

TEST_F(kvmi_deadline, errors)
{
	struct kvmi_tool *tool;

	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, 0, 1), EINVAL);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, 0, 0), 0);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, ~0u, ~0u), 0);
	TEST_ASSERT(ioctl(self->vm->fd, KVM_INTROSPECTION_DEADLINE, NULL) && errno == EFAULT,
		    "errno %d", errno);

	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, SHORT_MS, 0), EFAULT);
	/* An attached VM is not hooked any more when the tool has gone. */
	tool = kvmi_attach(self->vm);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, SHORT_MS, 0), 0);
	kvmi_free(tool);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, SHORT_MS, 0), EFAULT);
}

static int in_child(struct kvm_vm *vm, bool attach)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		if (attach)
			kvmi_attach(vm);
		_exit(kvmi_deadline_errno(vm, SHORT_MS, 0));
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "Status %x", status);

	return WEXITSTATUS(status);
}

/* Who attached may set it, but nobody may for a VM that the VMM has hooked. */
TEST_F(kvmi_deadline, other_process)
{
	TEST_ASSERT_EQ(in_child(self->vm, false), EPERM);
	kvmi_unhook(self->vm);
	TEST_ASSERT_EQ(in_child(self->vm, false), EFAULT);
	TEST_ASSERT_EQ(in_child(self->vm, true), 0);
}

/* A tool that never answers: each event is as if it had said CONTINUE. */
TEST_F(kvmi_deadline, silent_tool)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	set_deadline(self->vm, SHORT_MS, 0);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 10);
	TEST_ASSERT_EQ(runner.synced, 0);
	kvmi_stop(&runner);

	TEST_ASSERT(missed(self->vcpu[0]) >= 10, "Not counted");
	expect_hypercall(self->tool, 1, &ev);
	expect_hypercall(self->tool, 2, &ev);
	kvmi_check_version(self->tool);
}

/* A reply to an event that was given up is ignored, once. */
TEST_F(kvmi_deadline, late_reply)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev[64];
	int i, n = 0;

	set_deadline(self->vm, SHORT_MS, 0);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 3);
	set_deadline(self->vm, LONG_MS, 0);
	do {
		TEST_ASSERT(n < ARRAY_SIZE(ev), "Too many events");
		expect_hypercall(self->tool, n + 1, &ev[n]);
		n++;
	} while (kvmi_readable(self->tool, KVMI_QUIET_MS));

	/* They are not taken for replies to the event that waits now. */
	for (i = n - 2; i >= 0; i--)
		kvmi_reply(self->tool, &ev[i], KVMI_EVENT_ACTION_CRASH);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(runner.syncs, n - 1);
	kvmi_reply(self->tool, &ev[n - 1], KVMI_EVENT_ACTION_CONTINUE);
	expect_hypercall(self->tool, n + 1, &ev[n - 1]);

	kvmi_reply(self->tool, &ev[0], KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_closed(self->tool);
	kvmi_stop(&runner);
}

/* Nothing but late replies is tolerated. */
TEST_F(kvmi_deadline, reply_to_nothing)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	set_deadline(self->vm, SHORT_MS, 0);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 3);
	expect_hypercall(self->tool, 1, &ev);
	ev.hdr.seq = 1u << 31;
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	do {
		kvmi_wait_sync(&runner, runner.syncs + 1);
	} while (kvmi_next_event(self->tool, &ev));
	kvmi_stop(&runner);
}

/* The connection ends after so many in a row, and only then. */
TEST_F(kvmi_deadline, max_missed)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u32 seq = 1;
	int round;

	set_deadline(self->vm, 500, 3);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	for (round = 0; round < 3; round++) {
		expect_hypercall(self->tool, seq++, &ev);
		expect_hypercall(self->tool, seq++, &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	expect_hypercall(self->tool, seq++, &ev);
	expect_hypercall(self->tool, seq++, &ev);
	expect_hypercall(self->tool, seq++, &ev);
	TEST_ASSERT(!kvmi_next_event(self->tool, &ev), "A fourth event");

	/* Nobody watches any more. */
	kvmi_wait_sync(&runner, runner.syncs + 100);
	TEST_ASSERT_EQ(runner.synced, -KVM_ENOSYS);
	kvmi_stop(&runner);
	TEST_ASSERT_EQ(missed(self->vcpu[0]), 6);
	TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_HOOK, 0, 0), EEXIST);
}

/* KVM does not keep more and more events for a tool that does not read them. */
TEST_F(kvmi_deadline, unread)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int ms;

	set_deadline(self->vm, 1, 0);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	for (ms = 0; ms < KVMI_TIMEOUT_MS && !runner.synced; ms++)
		usleep(1000);
	TEST_ASSERT_EQ(runner.synced, -KVM_ENOSYS);
	kvmi_stop(&runner);
	while (kvmi_next_event(self->tool, &ev))
		;
}

/* It holds for an event that waits already, and is new for each connection. */
TEST_F(kvmi_deadline, set_while_waiting)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	expect_hypercall(self->tool, 1, &ev);
	set_deadline(self->vm, LONG_MS, 0);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(runner.syncs, 0);
	set_deadline(self->vm, SHORT_MS, 0);
	kvmi_wait_sync(&runner, 3);
	set_deadline(self->vm, 0, 0);

	/* Whether it waits just now or is about to: it gets no further. */
	usleep(3 * SHORT_MS * 1000);
	while (kvmi_readable(self->tool, 0))
		TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Connection closed");
	kvmi_expect_quiet(self->tool);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);

	self->tool = kvmi_rehook(self->tool);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
	expect_hypercall(self->tool, 1, &ev);
	usleep(3 * SHORT_MS * 1000);
	kvmi_expect_quiet(self->tool);
	kvmi_unhook(self->vm);
	kvmi_stop(&runner);
}

/* A VMM that takes its vCPUs out of KVM_RUN all the time sees progress. */
TEST_F(kvmi_deadline, signals)
{
	struct kvmi_runner runner;
	int i;

	set_deadline(self->vm, SHORT_MS, 0);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	for (i = 0; i < 20000 && runner.syncs < 5; i++) {
		pthread_kill(runner.thread, SIGUSR1);
		usleep(1000);
	}
	TEST_ASSERT(runner.syncs >= 5, "%lu steps", (unsigned long)runner.syncs);
	TEST_ASSERT(runner.interrupted > 10, "%lu interruptions",
		    (unsigned long)runner.interrupted);
	kvmi_stop(&runner);
}

/* A tool that keeps KVM busy, but does not answer. */
TEST_F(kvmi_deadline, flood)
{
	struct kvmi_vcpu_get_info_reply info;
	struct kvmi_runner runner;
	int i;

	set_deadline(self->vm, SHORT_MS, 0);
	start_hypercalls(self->tool, &runner, self->vcpu[0]);
	for (i = 0; i < 100000 && runner.syncs < 5; i++)
		TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0,
					     &info, sizeof(info)), 0);
	TEST_ASSERT(runner.syncs >= 5, "%lu steps", (unsigned long)runner.syncs);
	kvmi_stop(&runner);
}

TEST_F(kvmi_deadline, pause)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	set_deadline(self->vm, SHORT_MS, 0);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_hypercall_loop);
	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	kvmi_start(&runner, self->vcpu[0]);
	for (i = 0; i < 3; i++)
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_wait_sync(&runner, 1);
	TEST_ASSERT_EQ(missed(self->vcpu[0]), 3);
	kvmi_stop(&runner);
}

#define STAR_VALUE	0x0013001000000000ull

static void guest_write_msr(void)
{
	wrmsr(MSR_STAR, STAR_VALUE);
	GUEST_ASSERT_EQ(rdmsr(MSR_STAR), STAR_VALUE);
	GUEST_SYNC(1);
	GUEST_DONE();
}

/*
 * The guest's own value is written, with its own registers, whatever the tool has
 * begun; also if the time has passed while the VMM did not run the vCPU.
 */
static void test_own_value(struct kvmi_tool *tool, struct kvm_vcpu *vcpu, bool out)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(vcpu, guest_write_msr);
	vcpu_set_msr(vcpu, MSR_STAR, 0);
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 0), 0);
	kvmi_start(&runner, vcpu);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_MSR, 1), 0);
	TEST_ASSERT_EQ(kvmi_control_msr(tool, 0, MSR_STAR, 1), 0);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_MSR, &ev);

	regs = ev.common.arch.regs;
	regs.rip = 0;
	TEST_ASSERT_EQ(kvmi_set_registers(tool, 0, &regs), 0);
	if (out)
		kvmi_stop(&runner);
	set_deadline(tool->vm, SHORT_MS, 0);
	if (out) {
		usleep(2 * SHORT_MS * 1000);
		kvmi_start(&runner, vcpu);
	}
	kvmi_expect_done(&runner);
	kvmi_reply_value(tool, &ev, 0x1234);
	kvmi_check_version(tool);
	TEST_ASSERT_EQ(missed(vcpu), 1);
}

TEST_F(kvmi_deadline, own_value)
{
	test_own_value(self->tool, self->vcpu[0], false);
}

TEST_F(kvmi_deadline, own_value_while_out)
{
	test_own_value(self->tool, self->vcpu[0], true);
}

/* The access is let through, and the page stays restricted. */
TEST_F(kvmi_deadline, page)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_page page;
	struct kvmi_ev ev;
	u64 val;

	kvmi_page_alloc(self->vm, &page);
	kvmi_start_agent(&runner, vcpu);
	kvmi_enable_pf(self->tool, 0);
	kvmi_restrict(self->tool, &page, KVMI_PAGE_ACCESS_R);
	set_deadline(self->vm, SHORT_MS, 0);

	for (val = 1; val <= 3; val++) {
		kvmi_call(vcpu, val & 1 ? kvmi_guest_store : kvmi_guest_strange_store,
			  page.gva + KVMI_PAGE_OFFSET, val);
		TEST_ASSERT_EQ(*page.value, val);
		TEST_ASSERT_EQ(missed(vcpu), val);
		kvmi_expect_pf(self->tool, 0, page.gva + KVMI_PAGE_OFFSET,
			       page.gpa + KVMI_PAGE_OFFSET, KVMI_PAGE_ACCESS_W, &ev);
	}
	kvmi_stop(&runner);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
