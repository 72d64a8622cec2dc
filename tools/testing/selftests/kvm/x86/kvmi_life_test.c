// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: life cycle. Whatever comes or goes, and whenever it does,
 * the guest goes on and nobody waits for ever.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

KVMI_TEST_SUITE(kvmi_life, 2);

static void guest_loop(void)
{
	for (;;)
		GUEST_SYNC(1);
}

static void guest_hypercall_loop(void)
{
	for (;;)
		GUEST_SYNC(kvmi_guest_hypercall());
}

/* vCPU 0 waits for the reply to a hypercall event. */
static void start_waiting(struct kvmi_tool *tool, struct kvmi_runner *runner,
			  struct kvm_vcpu *vcpu, struct kvmi_ev *ev)
{
	vcpu_arch_set_entry_point(vcpu, guest_hypercall_loop);
	kvmi_enable_and_start(tool, runner, vcpu, KVMI_VCPU_EVENT_HYPERCALL);
	kvmi_expect_event(tool, vcpu->id, KVMI_VCPU_EVENT_HYPERCALL, ev);
}

/* A signal takes the vCPU out of KVM_RUN; the next KVM_RUN waits on. */
TEST_F(kvmi_life, signal)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 steps;
	int i;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	for (i = 0; i < 10; i++) {
		kvmi_interrupt(&runner);
		kvmi_expect_quiet(self->tool);
		TEST_ASSERT_EQ(runner.error, EINTR);
		TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_INTR);
	}
	TEST_ASSERT_EQ(runner.syncs, 0);

	/* One event, one verdict. */
	for (steps = 1; steps < 20; steps++) {
		if (steps & 1)
			kvmi_interrupt(&runner);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
		TEST_ASSERT_EQ(ev.hdr.seq, steps + 1);
		kvmi_wait_sync(&runner, steps);
		TEST_ASSERT_EQ(runner.syncs, steps);
		TEST_ASSERT_EQ(runner.synced, 0);
	}
	kvmi_stop(&runner);
}

/* The reply comes while the vCPU is not in KVM_RUN. */
TEST_F(kvmi_life, reply_while_out)
{
	struct kvm_regs regs, now;
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	kvmi_stop(&runner);

	/* Nothing of the instruction has happened. */
	vcpu_regs_get(self->vcpu[0], &now);
	TEST_ASSERT(!memcmp(&now, &ev.common.arch.regs, sizeof(now)), "It has changed");

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_quiet(self->tool);
	vcpu_regs_get(self->vcpu[0], &now);
	TEST_ASSERT(!memcmp(&now, &ev.common.arch.regs, sizeof(now)), "It has changed");

	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.hdr.seq, 2);
	kvmi_wait_sync(&runner, 1);
	TEST_ASSERT_EQ(runner.synced, 0);
	TEST_ASSERT_EQ(runner.syncs, 1);

	/* With registers: they wait for the instruction too. */
	kvmi_interrupt(&runner);
	regs = ev.common.arch.regs;
	regs.r15 = 0x1515;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_stop(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.common.arch.regs.r15, 0x1515);
	TEST_ASSERT_EQ(runner.synced, 0);
	kvmi_stop(&runner);
}

/* A pause event between the reply and the instruction does not cost the reply. */
TEST_F(kvmi_life, pause_before_kept_reply)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev, pause;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	kvmi_stop(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), 0);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);

	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &pause);
	TEST_ASSERT_EQ(runner.syncs, 0);
	kvmi_interrupt(&runner);
	kvmi_reply(self->tool, &pause, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &pause);
	TEST_ASSERT_EQ(runner.syncs, 0);
	kvmi_reply(self->tool, &pause, KVMI_EVENT_ACTION_CONTINUE);

	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.hdr.seq, 4);
	kvmi_wait_sync(&runner, 1);
	TEST_ASSERT_EQ(runner.syncs, 1);
	kvmi_stop(&runner);
}

/* The VMM changes the vCPU meanwhile: the reply was for something else. */
TEST_F(kvmi_life, reply_is_dropped_after_reset)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	kvmi_stop(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	/* Somewhere else. */
	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 3);
	TEST_ASSERT_EQ(runner.synced, 1);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);

	/* The same instruction, but another register. */
	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	kvmi_stop(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	vcpu_regs_get(self->vcpu[0], &regs);
	regs.r15 ^= 1;
	vcpu_regs_set(self->vcpu[0], &regs);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.common.arch.regs.r15, regs.r15);
	TEST_ASSERT_EQ(ev.common.arch.regs.rip, regs.rip);
	TEST_ASSERT_EQ(runner.syncs, 0);
	kvmi_stop(&runner);
}

/* The same for the reply to a pause event, which no instruction waits for. */
TEST_F(kvmi_life, pause_reply_is_dropped_after_reset)
{
	static const u8 actions[] = { KVMI_EVENT_ACTION_CONTINUE, KVMI_EVENT_ACTION_CRASH };
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	int i;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
		kvmi_start(&runner, self->vcpu[0]);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		regs = ev.common.arch.regs;
		regs.rip = 0xdead;
		TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
		kvmi_stop(&runner);

		/* A reset, say. */
		vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
		vcpu_regs_get(self->vcpu[0], &regs);
		regs.r14 = 0x1414 + i;
		vcpu_regs_set(self->vcpu[0], &regs);

		kvmi_reply(self->tool, &ev, actions[i]);
		kvmi_start(&runner, self->vcpu[0]);
		kvmi_wait_sync(&runner, 3);
		kvmi_stop(&runner);
		vcpu_regs_get(self->vcpu[0], &regs);
		TEST_ASSERT_EQ(regs.r14, 0x1414 + i);
	}
}

static u64 guest_go;

static void guest_hypercall_and_spin(void)
{
	u64 seen = 0;

	kvmi_guest_may_spin();
	for (;;) {
		kvmi_guest_hypercall();
		while (READ_ONCE(guest_go) == seen)
			;
		seen++;
	}
}

/*
 * A command that comes with the reply, to a vCPU that was out of KVM_RUN: it is
 * carried out although nothing else makes the vCPU leave guest mode.
 */
TEST_F(kvmi_life, command_behind_reply)
{
	struct {
		struct kvmi_msg_hdr reply_hdr;
		struct kvmi_vcpu_hdr reply_vcpu;
		struct kvmi_vcpu_event_reply reply;
		struct kvmi_msg_hdr cmd_hdr;
		struct kvmi_vcpu_hdr cmd_vcpu;
	} msg = {
		.reply_hdr.id = KVMI_VCPU_EVENT,
		.reply_hdr.size = sizeof(msg.reply_vcpu) + sizeof(msg.reply),
		.reply_vcpu.vcpu = 1,
		.reply.event = KVMI_VCPU_EVENT_HYPERCALL,
		.cmd_hdr.id = KVMI_VCPU_GET_INFO,
		.cmd_hdr.size = sizeof(msg.cmd_vcpu),
		.cmd_vcpu.vcpu = 1,
	};
	u64 *go = addr_gva2hva(self->vm, (gva_t)&guest_go);
	struct kvmi_vcpu_get_info_reply info;
	struct kvmi_runner runner[2];
	struct kvmi_ev ev;
	int round;

	/* vCPU 0 waits all the time: it is the one that reads the socket. */
	start_waiting(self->tool, &runner[0], self->vcpu[0], &ev);
	vcpu_arch_set_entry_point(self->vcpu[1], guest_hypercall_and_spin);
	kvmi_enable_and_start(self->tool, &runner[1], self->vcpu[1], KVMI_VCPU_EVENT_HYPERCALL);
	kvmi_expect_event(self->tool, 1, KVMI_VCPU_EVENT_HYPERCALL, &ev);

	for (round = 0; round < 100; round++) {
		kvmi_interrupt(&runner[1]);
		usleep(2000);
		msg.reply_hdr.seq = ev.hdr.seq;
		msg.cmd_hdr.seq = round;
		kvmi_write(self->tool, &msg, sizeof(msg));
		TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VCPU_GET_INFO, round, &info,
					       sizeof(info), NULL), 0);
		WRITE_ONCE(*go, *go + 1);
		kvmi_expect_event(self->tool, 1, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	}
	kvmi_close(self->tool);
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

TEST_F(kvmi_life, crash_while_out)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	kvmi_stop(&runner);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_join(&runner);
	TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(self->vcpu[0]->run->system_event.type, KVM_SYSTEM_EVENT_CRASH);

	/* It is over with that. */
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.hdr.seq, 2);
	kvmi_stop(&runner);
}

TEST_F(kvmi_life, signal_in_pause)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_interrupt(&runner);
	kvmi_interrupt(&runner);
	kvmi_expect_quiet(self->tool);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(ev.hdr.seq, 2);
	TEST_ASSERT_EQ(runner.syncs, 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_sync(&runner, 1);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Signals all the time, events all the time. */
TEST_F(kvmi_life, signal_storm)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u64 steps;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	for (steps = 1; steps < 500; steps++) {
		pthread_kill(runner.thread, SIGUSR1);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		pthread_kill(runner.thread, SIGUSR1);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
		TEST_ASSERT_EQ(ev.hdr.seq, steps + 1);
		kvmi_wait_sync(&runner, steps);
		TEST_ASSERT_EQ(runner.syncs, steps);
		TEST_ASSERT_EQ(runner.synced, 0);
	}
	TEST_ASSERT(runner.interrupted > 10, "%lu interruptions",
		    (unsigned long)runner.interrupted);
	kvmi_stop(&runner);
}

/* immediate_exit comes before any work for the tool, but loses none. */
TEST_F(kvmi_life, immediate_exit)
{
	struct kvmi_vcpu_get_info_reply info;
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u32 seq;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), 0);
	seq = kvmi_send_vcpu(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0);
	self->vcpu[0]->run->immediate_exit = 1;
	TEST_ASSERT(__vcpu_run(self->vcpu[0]) && errno == EINTR, "errno %d", errno);
	TEST_ASSERT(__vcpu_run(self->vcpu[0]) && errno == EINTR, "errno %d", errno);
	self->vcpu[0]->run->immediate_exit = 0;
	kvmi_expect_quiet(self->tool);

	kvmi_start(&runner, self->vcpu[0]);
	TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VCPU_GET_INFO, seq, &info,
				       sizeof(info), NULL), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_stop(&runner);
}

/* The ways in which a connection ends while vCPUs wait. */
enum { END_UNHOOK, END_CLOSE, END_SHUTDOWN_WR, END_SHUTDOWN_RD, END_BAD_FRAME, END_NR };

static void end_connection(struct kvm_vm *vm, struct kvmi_tool *tool, int how)
{
	static const struct kvmi_msg_hdr bad = { .size = 0xffff };

	switch (how) {
	case END_UNHOOK:
		kvmi_unhook(vm);
		kvmi_expect_closed(tool);
		break;
	case END_CLOSE:
		kvmi_close(tool);
		break;
	case END_SHUTDOWN_WR:
		shutdown(tool->fd, SHUT_WR);
		kvmi_expect_closed(tool);
		break;
	case END_SHUTDOWN_RD:
		shutdown(tool->fd, SHUT_RD);
		/* Noticed at the next thing that KVM has to say. */
		kvmi_send(tool, KVMI_GET_VERSION, NULL, 0);
		break;
	case END_BAD_FRAME:
		kvmi_write(tool, &bad, sizeof(bad));
		kvmi_expect_closed(tool);
		break;
	}
}

TEST_F(kvmi_life, end_while_waiting)
{
	struct kvmi_runner runner[2];
	struct kvmi_ev ev;
	int how, i;

	for (how = 0; how < END_NR; how++) {
		for (i = 0; i < 2; i++)
			start_waiting(self->tool, &runner[i], self->vcpu[i], &ev);
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 1, 0), 0);
		end_connection(self->vm, self->tool, how);

		/* As CONTINUE; and then no more events. */
		for (i = 0; i < 2; i++) {
			kvmi_wait_sync(&runner[i], 5);
			TEST_ASSERT(READ_ONCE(runner[i].synced) == (u64)-KVM_ENOSYS,
				    "Way %d, vCPU %d: %lx after %lu hypercalls", how, i,
				    (unsigned long)runner[i].synced,
				    (unsigned long)runner[i].syncs);
		}

		if (how != END_UNHOOK) {
			int fds[2];

			/* Hooked it is, until the VMM says otherwise. */
			TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
			TEST_ASSERT_EQ(kvmi_hook_errno(self->vm, KVM_INTROSPECTION_HOOK,
						       fds[0], 0), EEXIST);
			close(fds[0]);
			close(fds[1]);
			kvmi_unhook(self->vm);
		}
		for (i = 0; i < 2; i++)
			kvmi_stop(&runner[i]);

		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
}

/* The same with the vCPU out of KVM_RUN, the event owed a reply. */
TEST_F(kvmi_life, end_while_out)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int how, replied;

	for (how = 0; how < END_NR * 2; how++) {
		replied = how & 1;
		start_waiting(self->tool, &runner, self->vcpu[0], &ev);
		kvmi_stop(&runner);
		if (replied)
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_check_version(self->tool);
		end_connection(self->vm, self->tool, how / 2);

		kvmi_start(&runner, self->vcpu[0]);
		kvmi_wait_sync(&runner, 5);
		TEST_ASSERT_EQ(runner.synced, (u64)-KVM_ENOSYS);
		kvmi_stop(&runner);

		kvmi_unhook(self->vm);
		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
}

/* An old event has nothing to do with a new connection. */
TEST_F(kvmi_life, rehook_while_waiting)
{
	struct kvmi_runner runner;
	struct kvmi_tool *old;
	struct kvmi_ev ev;
	int round;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	for (round = 0; round < 50; round++) {
		old = self->tool;
		kvmi_unhook(self->vm);
		self->tool = kvmi_hook(self->vm);
		TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
		TEST_ASSERT_EQ(ev.hdr.seq, 1);
		kvmi_expect_closed(old);
		kvmi_free(old);
		if (round & 1)
			kvmi_interrupt(&runner);
	}
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	kvmi_stop(&runner);
}

/* Hook, use, unhook, while the vCPUs run. */
TEST_F(kvmi_life, thousand_rounds)
{
	struct kvmi_runner runner[2];
	struct kvmi_tool *tool;
	struct kvmi_ev ev;
	int round, i;

	kvmi_unhook(self->vm);
	for (i = 0; i < 2; i++) {
		vcpu_arch_set_entry_point(self->vcpu[i], guest_hypercall_loop);
		kvmi_start(&runner[i], self->vcpu[i]);
	}

	for (round = 0; round < 1000; round++) {
		tool = round & 1 ? kvmi_attach(self->vm) : kvmi_hook(self->vm);
		switch (round % 4) {
		case 0:
			kvmi_check_version(tool);
			break;
		case 1:
			TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
			kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
			break;
		case 2:
			TEST_ASSERT_EQ(kvmi_control_event(tool, 1, KVMI_VCPU_EVENT_HYPERCALL,
							  1), 0);
			break;
		case 3:
			kvmi_send_vcpu(tool, KVMI_VCPU_GET_INFO, 1, NULL, 0);
			break;
		}
		/* Either side first. */
		if (round % 3)
			kvmi_unhook(self->vm);
		kvmi_free(tool);
		kvmi_unhook(self->vm);
	}

	for (i = 0; i < 2; i++) {
		kvmi_wait_sync(&runner[i], runner[i].syncs + 1);
		kvmi_stop(&runner[i]);
	}
}

/* UNHOOK and the loss of the tool at the same time, from several threads. */
static void *unhook_thread(void *arg)
{
	kvmi_unhook(arg);
	return NULL;
}

TEST_F(kvmi_life, unhook_races)
{
	struct kvmi_runner runner;
	pthread_t threads[3];
	struct kvmi_ev ev;
	int round, i;

	for (round = 0; round < 50; round++) {
		start_waiting(self->tool, &runner, self->vcpu[0], &ev);
		for (i = 0; i < 3; i++)
			TEST_ASSERT(!pthread_create(&threads[i], NULL, unhook_thread, self->vm),
				    "pthread_create");
		kvmi_close(self->tool);
		for (i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		kvmi_wait_sync(&runner, 1);
		kvmi_stop(&runner);
		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
}

#define SLOT		10
#define SLOT_GPA	(4ull << 30)

/* Memslots can be changed while a vCPU waits: it holds nothing. */
TEST_F(kvmi_life, memslots_while_waiting)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev, pause;
	u64 word = 0x1234;
	int i;

	start_waiting(self->tool, &runner, self->vcpu[0], &ev);

	vcpu_arch_set_entry_point(self->vcpu[1], guest_loop);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 1, 0), 0);
	struct kvmi_runner other;

	kvmi_start(&other, self->vcpu[1]);
	kvmi_expect_event(self->tool, 1, KVMI_VCPU_EVENT_PAUSE, &pause);

	for (i = 0; i < 10; i++) {
		vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, SLOT_GPA, SLOT, 16, 0);
		TEST_ASSERT_EQ(kvmi_write_physical(self->tool, SLOT_GPA, &word, 8), 0);
		TEST_ASSERT_EQ(*(u64 *)addr_gpa2hva(self->vm, SLOT_GPA), word);
		vm_mem_region_move(self->vm, SLOT, SLOT_GPA + (1 << 20));
		TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA, &word, 8), -KVM_ENOENT);
		TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA + (1 << 20), &word, 8), 0);
		vm_mem_region_delete(self->vm, SLOT);
		TEST_ASSERT_EQ(kvmi_read_physical(self->tool, SLOT_GPA + (1 << 20), &word, 8),
			       -KVM_ENOENT);
	}

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_reply(self->tool, &pause, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_sync(&runner, 1);
	kvmi_wait_sync(&other, 1);
	kvmi_stop(&runner);
	kvmi_stop(&other);
}

/* A vCPU that is created later is introspected from birth. */
TEST_F(kvmi_life, vcpu_added)
{
	struct kvmi_vm_get_info_reply info;
	struct kvmi_runner runner;
	struct kvm_vcpu *vcpu;
	struct kvmi_ev ev;

	TEST_ASSERT_EQ(kvmi_pause(self->tool, 2, 0), -KVM_EINVAL);
	vcpu = vm_vcpu_add(self->vm, 2, guest_hypercall_loop);
	TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_GET_INFO, NULL, 0, &info, sizeof(info)), 0);
	TEST_ASSERT_EQ(info.vcpu_count, 3);

	TEST_ASSERT_EQ(kvmi_pause(self->tool, 2, 0), 0);
	kvmi_start(&runner, vcpu);
	kvmi_expect_event(self->tool, 2, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 2, KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(self->tool, 2, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	kvmi_unhook(self->vm);
	kvmi_wait_sync(&runner, 1);
	kvmi_stop(&runner);
}

/* vCPUs are identified by their index, whatever their id is. */
TEST_F(kvmi_life, vcpu_index_is_not_id)
{
	struct kvmi_runner runner;
	struct kvm_vcpu *vcpu;
	struct kvmi_ev ev;

	vcpu = vm_vcpu_add(self->vm, 9, guest_loop);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 9, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 2, 0), 0);
	kvmi_start(&runner, vcpu);
	kvmi_expect_event(self->tool, 2, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_stop(&runner);
}

/* An application processor that was not started can be paused, no more. */
TEST_F(kvmi_life, ap_before_init)
{
	struct kvmi_vcpu_get_info_reply info;
	struct kvm_mp_state state;
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvm_vcpu *ap;
	struct kvmi_ev ev;

	ap = __vm_vcpu_add(self->vm, 2);
	vcpu_ioctl(ap, KVM_GET_MP_STATE, &state);
	TEST_ASSERT_EQ(state.mp_state, KVM_MP_STATE_UNINITIALIZED);

	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_INFO, 2, NULL, 0,
				     &info, sizeof(info)), -KVM_EAGAIN);
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 2, &regs), -KVM_EAGAIN);
	kvmi_start(&runner, ap);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_INFO, 2, NULL, 0,
				     &info, sizeof(info)), -KVM_EAGAIN);

	/* While it waits for the reply it takes commands. */
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 2, 1), 0);
	kvmi_expect_event(self->tool, 2, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(ev.common.arch.mode, 2);
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 2, &regs), 0);
	TEST_ASSERT_EQ(kvmi_vcpu_cmd(self->tool, KVMI_VCPU_GET_INFO, 2, NULL, 0,
				     &info, sizeof(info)), 0);
	kvmi_interrupt(&runner);
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 2, &regs), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 2, &regs), -KVM_EAGAIN);

	/* Twice, the second one while it is out of KVM_RUN. */
	kvmi_stop(&runner);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 2, 1), 0);
	kvmi_start(&runner, ap);
	kvmi_expect_event(self->tool, 2, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_unhook(self->vm);

	vcpu_ioctl(self->vcpu[0], KVM_GET_MP_STATE, &state);
	kvmi_stop(&runner);
	vcpu_ioctl(ap, KVM_GET_MP_STATE, &state);
	TEST_ASSERT_EQ(state.mp_state, KVM_MP_STATE_UNINITIALIZED);
}

/* A halted vCPU wakes up for the tool, and sleeps on. */
static void guest_halt(void)
{
	GUEST_SYNC(1);
	asm volatile("sti; hlt; cli");
	GUEST_SYNC(2);
	GUEST_DONE();
}

TEST_F(kvmi_life, halted)
{
	struct kvm_mp_state state = {};
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;
	int i;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_halt);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 1);

	for (i = 0; i < 20; i++) {
		TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 0, &regs), 0);
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, i & 1), 0);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(runner.syncs, 1);

	kvmi_stop(&runner);
	vcpu_ioctl(self->vcpu[0], KVM_GET_MP_STATE, &state);
	TEST_ASSERT_EQ(state.mp_state, KVM_MP_STATE_HALTED);

	/* The state of a halted vCPU is what it was. */
	kvmi_start(&runner, self->vcpu[0]);
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 0, &regs), 0);
	kvmi_stop(&runner);
	vcpu_ioctl(self->vcpu[0], KVM_GET_MP_STATE, &state);
	TEST_ASSERT_EQ(state.mp_state, KVM_MP_STATE_HALTED);
}

/* A tool that is killed, at a moment that it does not choose. */
static pid_t fork_tool(struct kvm_vm *vm, int *ready)
{
	struct kvmi_tool *tool;
	struct kvmi_ev ev;
	int fds[2];
	pid_t pid;

	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		tool = kvmi_attach(vm);
		TEST_ASSERT_EQ(kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
		for (;;) {
			kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
			TEST_ASSERT(write(fds[1], "x", 1) == 1, "write");
			kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
	}
	close(fds[1]);
	*ready = fds[0];

	return pid;
}

TEST_F(kvmi_life, tool_killed)
{
	struct kvmi_runner runner;
	struct kvmi_tool *tool;
	char buf[4096];
	int round, fd;
	pid_t pid;

	kvmi_unhook(self->vm);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_hypercall_loop);
	kvmi_start(&runner, self->vcpu[0]);

	for (round = 0; round < 30; round++) {
		pid = fork_tool(self->vm, &fd);
		TEST_ASSERT(read(fd, buf, 1) == 1, "read");
		usleep(round * 100);
		kill(pid, SIGKILL);
		TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");
		close(fd);
		kvmi_wait_sync(&runner, runner.syncs + 1);
	}

	/* A new one finds everything as it should be. */
	tool = kvmi_attach(self->vm);
	kvmi_check_version(tool);
	kvmi_free(tool);
	kvmi_stop(&runner);
}

/* A tool that hangs does not keep the VMM from stopping the guest. */
TEST_F(kvmi_life, tool_stopped)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	char byte;
	pid_t pid;
	int fd;

	kvmi_unhook(self->vm);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_hypercall_loop);
	kvmi_start(&runner, self->vcpu[0]);
	pid = fork_tool(self->vm, &fd);
	TEST_ASSERT(read(fd, &byte, 1) == 1, "read");
	kill(pid, SIGSTOP);
	usleep(KVMI_QUIET_MS * 1000);

	kvmi_interrupt(&runner);
	kvmi_stop(&runner);
	vcpu_regs_get(self->vcpu[0], &regs);

	kvmi_start(&runner, self->vcpu[0]);
	kvmi_unhook(self->vm);
	kvmi_wait_sync(&runner, 2);
	kvmi_stop(&runner);
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");
	close(fd);
}

/* A VMM that is killed, with a vCPU that waits. */
static void run_vmm(int sock, bool attach)
{
	struct kvmi_runner runner;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vm = vm_create_with_one_vcpu(&vcpu, guest_hypercall_loop);
	TEST_ASSERT_EQ(kvmi_hook_errno(vm, attach ? KVM_INTROSPECTION_ATTACH :
				       KVM_INTROSPECTION_HOOK, sock, 0), 0);
	close(sock);
	if (!attach) {
		TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_COMMAND, -1, 1), 0);
		TEST_ASSERT_EQ(kvmi_feature_errno(vm, KVM_INTROSPECTION_EVENT, -1, 1), 0);
	}
	kvmi_start(&runner, vcpu);
	pause();
}

static void test_vmm_ends(int signal, bool attach)
{
	struct kvmi_tool *tool;
	struct kvmi_ev ev;
	int fds[2];
	pid_t pid;
	u64 word;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair");
	pid = fork();
	if (!pid) {
		close(fds[1]);
		run_vmm(fds[0], attach);
		_exit(1);
	}
	close(fds[0]);
	tool = kvmi_adopt(NULL, fds[1]);

	/* HOOK allows nothing at first. */
	while (kvmi_control_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 1) == -KVM_EPERM)
		usleep(1000);
	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(kvmi_read_physical(tool, 0, &word, 8), 0);
	kill(pid, signal);
	kvmi_expect_closed(tool);
	TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");
	kvmi_free(tool);
}

TEST(kvmi_vmm_killed)
{
	int round;

	for (round = 0; round < 5; round++) {
		test_vmm_ends(SIGKILL, false);
		test_vmm_ends(SIGKILL, true);
		test_vmm_ends(SIGTERM, true);
	}
}

/* The VM ends without UNHOOK. */
TEST(kvmi_vm_destroyed)
{
	struct kvmi_tool *tool;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int round;

	for (round = 0; round < 20; round++) {
		vm = vm_create_with_one_vcpu(&vcpu, guest_loop);
		tool = round & 1 ? kvmi_attach(vm) : kvmi_hook(vm);
		if (round & 2)
			kvmi_send_vcpu(tool, KVMI_VCPU_GET_INFO, 0, NULL, 0);
		if (round & 4)
			TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
		kvm_vm_free(vm);
		kvmi_expect_closed(tool);
		kvmi_free(tool);
	}
}

/* The tool keeps the descriptor of the VM longer than the VMM lives. */
TEST(kvmi_vm_outlives_vmm)
{
	struct kvmi_vm_get_info_reply info;
	int sock[2], pass[2], vm_fd;
	struct kvm_vm copy = {};
	struct kvmi_tool *tool;
	u64 word;
	pid_t pid;
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { .iov_base = &word, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, pass), "socketpair");
	pid = fork();
	if (!pid) {
		struct kvm_vcpu *vcpu;
		struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_loop);

		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &vm->fd, sizeof(int));
		TEST_ASSERT(sendmsg(pass[1], &msg, 0) == 1, "sendmsg");
		TEST_ASSERT(read(pass[1], &word, 1) == 1, "read");
		_exit(0);
	}
	TEST_ASSERT(recvmsg(pass[0], &msg, 0) == 1, "recvmsg");
	memcpy(&vm_fd, CMSG_DATA(cmsg), sizeof(int));

	copy.fd = vm_fd;
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock), "socketpair");
	TEST_ASSERT_EQ(kvmi_hook_errno(&copy, KVM_INTROSPECTION_ATTACH, sock[0], 0), 0);
	close(sock[0]);
	tool = kvmi_adopt(NULL, sock[1]);
	TEST_ASSERT_EQ(kvmi_read_physical(tool, 0, &word, 8), 0);

	TEST_ASSERT(write(pass[0], "x", 1) == 1, "write");
	TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");

	/* The VM is there, its memory is not. */
	TEST_ASSERT_EQ(kvmi_cmd(tool, KVMI_VM_GET_INFO, NULL, 0, &info, sizeof(info)), 0);
	TEST_ASSERT_EQ(info.vcpu_count, 1);
	TEST_ASSERT_EQ(kvmi_read_physical(tool, 0, &word, 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(kvmi_write_physical(tool, 0, &word, 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(kvmi_pause(tool, 0, 1), 0);
	close(vm_fd);
	kvmi_expect_closed(tool);
	kvmi_free(tool);
}

/*
 * A tool sends the VM to the VM: what is unread when the connection ends must
 * not keep it.
 */
static int attach_and_send_vm(void)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct kvmi_msg_hdr hdr = { .id = KVMI_VCPU_EVENT };
	struct iovec iov = { .iov_base = &hdr, .iov_len = sizeof(hdr) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	struct kvm_vm copy = {};
	int fds[2], i;

	copy.fd = ioctl(open_kvm_dev_path_or_exit(), KVM_CREATE_VM, 0);
	TEST_ASSERT(copy.fd >= 0 && !socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "No VM");
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &copy.fd, sizeof(copy.fd));

	/* The first one breaks the rules, the second one stays unread. */
	for (i = 0; i < 2; i++)
		TEST_ASSERT(sendmsg(fds[1], &msg, MSG_NOSIGNAL) > 0, "sendmsg");
	TEST_ASSERT_EQ(kvmi_hook_errno(&copy, KVM_INTROSPECTION_ATTACH, fds[0], 0), 0);

	return copy.fd;
}

TEST(kvmi_vm_sent_to_itself)
{
	char path[64];
	int fds[2], ms, vm_fd;
	pid_t pid;

	TEST_ASSERT(!pipe(fds), "pipe");
	pid = fork();
	if (!pid) {
		vm_fd = attach_and_send_vm();
		TEST_ASSERT(write(fds[1], &vm_fd, sizeof(vm_fd)) == sizeof(vm_fd), "write");
		pause();
	}
	TEST_ASSERT(read(fds[0], &vm_fd, sizeof(vm_fd)) == sizeof(vm_fd), "read");

	/* KVM has a directory for each VM. */
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d", pid, vm_fd);
	TEST_ASSERT(!access(path, F_OK), "No %s (is debugfs mounted?)", path);
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, NULL, 0) == pid, "waitpid");

	for (ms = KVMI_TIMEOUT_MS; ms && !access(path, F_OK); ms--)
		usleep(1000);
	TEST_ASSERT(ms, "The VM outlives everybody who had it");
}

/* VMs have nothing to do with each other. */
TEST_F(kvmi_life, two_vms)
{
	struct kvmi_runner runner[2];
	struct kvmi_tool *other;
	struct kvm_vcpu *vcpu;
	struct kvmi_ev ev[2];
	struct kvm_vm *vm;
	int i;

	vm = vm_create_with_one_vcpu(&vcpu, guest_hypercall_loop);
	other = kvmi_attach(vm);
	start_waiting(self->tool, &runner[0], self->vcpu[0], &ev[0]);
	start_waiting(other, &runner[1], vcpu, &ev[1]);

	for (i = 0; i < 20; i++) {
		kvmi_reply(other, &ev[1], KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_event(other, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev[1]);
		TEST_ASSERT_EQ(ev[1].hdr.seq, i + 2);
	}
	TEST_ASSERT_EQ(runner[0].syncs, 0);
	kvmi_free(other);
	kvmi_wait_sync(&runner[1], 22);
	kvmi_expect_quiet(self->tool);
	TEST_ASSERT_EQ(runner[0].syncs, 0);
	kvmi_stop(&runner[1]);
	kvm_vm_free(vm);

	kvmi_reply(self->tool, &ev[0], KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_sync(&runner[0], 1);
	kvmi_stop(&runner[0]);
}

/* Intercepts that are kept after the end are no harm to the guest. */
static u64 guest_breakpoints;

static void guest_bp_handler(struct ex_regs *regs)
{
	guest_breakpoints++;
}

static void guest_breakpoint_loop(void)
{
	u64 n;

	for (n = 1;; n++) {
		asm volatile("int3");
		GUEST_ASSERT_EQ(guest_breakpoints, n);
		GUEST_SYNC(n);
	}
}

TEST_F(kvmi_life, cleanup)
{
	struct kvmi_vm_control_cleanup req = {};
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	vm_install_exception_handler(self->vm, BP_VECTOR, guest_bp_handler);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_breakpoint_loop);

	for (req.enable = 0; req.enable < 2; req.enable++) {
		TEST_ASSERT_EQ(kvmi_cmd(self->tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req),
					NULL, 0), 0);
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
		kvmi_enable_and_start(self->tool, &runner, self->vcpu[0],
				      KVMI_VCPU_EVENT_BREAKPOINT);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		kvmi_unhook(self->vm);
		kvmi_wait_sync(&runner, 5);
		kvmi_stop(&runner);
		kvmi_free(self->tool);
		self->tool = kvmi_hook(self->vm);
	}
}

static bool trace_has(const char *trace, const char *what)
{
	bool has = strstr(trace, what);

	if (!has)
		fprintf(stderr, "No \"%s\" in the trace\n", what);
	return has;
}

static int write_trace_file(const char *name, const char *value)
{
	char path[128];
	int fd, r;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/%s", name);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return -1;
	r = write(fd, value, strlen(value));
	close(fd);

	return r < 0 ? -1 : 0;
}

TEST_F(kvmi_life, tracepoints)
{
	const size_t size = 1 << 20;
	char *trace = calloc(1, size);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	ssize_t len = 0, r;
	int fd;

	kvmi_unhook(self->vm);
	kvmi_free(self->tool);
	TEST_ASSERT(!write_trace_file("events/kvmi/enable", "1"),
		    "No tracepoints (is tracefs mounted?)");
	TEST_ASSERT(!write_trace_file("trace", "\n"), "trace");

	self->tool = kvmi_hook(self->vm);
	start_waiting(self->tool, &runner, self->vcpu[0], &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(kvmi_deadline_errno(self->vm, 1, 0), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	kvmi_unhook(self->vm);
	kvmi_stop(&runner);
	write_trace_file("events/kvmi/enable", "0");

	fd = open("/sys/kernel/tracing/trace", O_RDONLY);
	TEST_ASSERT(fd >= 0, "trace");
	while ((r = read(fd, trace + len, size - 1 - len)) > 0)
		len += r;
	close(fd);

	TEST_ASSERT(trace_has(trace, "kvmi_hook: vm") & trace_has(trace, "by hook") &
		    trace_has(trace, "kvmi_command: vm") & trace_has(trace, "vcpu-control-events") &
		    trace_has(trace, "kvmi_reply: vm") &
		    trace_has(trace, "kvmi_event: vcpu 0 event hypercall seq 1") &
		    trace_has(trace, "kvmi_action: vcpu 0 event hypercall seq 1 action continue") &
		    trace_has(trace, "kvmi_deadline: vcpu 0 event hypercall seq 2 missed 1") &
		    trace_has(trace, "kvmi_unhook: vm"), "Trace is incomplete");
	free(trace);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
