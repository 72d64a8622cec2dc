// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: events, their payload, and what the tool's answer does.
 */
#include <sys/ioctl.h>

#include "kvm_test_harness.h"
#include "kvmi_util.h"
#include "test_util.h"

KVMI_TEST_SUITE(kvmi_event, 2);

static void guest_one_hypercall(void)
{
	GUEST_ASSERT_EQ(kvmi_guest_hypercall(), 0);
	GUEST_DONE();
}

TEST_F(kvmi_event, hypercall)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_one_hypercall);
	kvmi_enable_and_start(self->tool, &runner, self->vcpu[0], KVMI_VCPU_EVENT_HYPERCALL);

	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.hdr.size, KVMI_EVENT_SIZE);
	TEST_ASSERT_EQ(ev.hdr.seq, 1);

	/* The state in the event is that of the vCPU. */
	TEST_ASSERT_EQ(ev.common.arch.mode, 8);
	TEST_ASSERT_EQ(ev.common.arch.regs.rax, KVM_HC_XEN_HVM_OP);
	TEST_ASSERT_EQ(ev.common.arch.regs.rdi, KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT);
	TEST_ASSERT_EQ(ev.common.arch.regs.rsi, 0);
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 0, &regs), 0);
	TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs, sizeof(regs)),
		    "Registers in the event and from the command differ");

	kvmi_expect_quiet(self->tool);
	TEST_ASSERT(!runner.done, "The guest did not wait");

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

static u64 guest_result;

static void guest_store_hypercall(u64 a0, u64 a1)
{
	for (;;) {
		WRITE_ONCE(guest_result, kvmi_guest_hypercall_args(a0, a1));
		GUEST_SYNC(guest_result);
	}
}

/* What the guest gets when no event is sent. */
TEST_F(kvmi_event, hypercall_refused)
{
	static const struct {
		u64 a0, a1;
		bool enable;
	} cases[] = {
		{ KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT, 0, false },
		{ KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT, 1, true },
		{ KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT + 1, 0, true },
		{ 0, 0, true },
	};
	struct kvmi_runner runner;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		vcpu_arch_set_entry_point(self->vcpu[0], guest_store_hypercall);
		vcpu_args_set(self->vcpu[0], 2, cases[i].a0, cases[i].a1);
		if (cases[i].enable)
			kvmi_enable_and_start(self->tool, &runner, self->vcpu[0],
					      KVMI_VCPU_EVENT_HYPERCALL);
		else
			kvmi_start(&runner, self->vcpu[0]);
		kvmi_wait_sync(&runner, 1);
		TEST_ASSERT_EQ(runner.synced, (u64)-KVM_ENOSYS);
		kvmi_stop(&runner);
		kvmi_expect_quiet(self->tool);
	}
}

/* Without introspection the number is nothing special. */
TEST_F(kvmi_event, hypercall_unhooked)
{
	struct kvmi_runner runner;

	kvmi_unhook(self->vm);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_store_hypercall);
	vcpu_args_set(self->vcpu[0], 2, KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT, 0);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 1);
	TEST_ASSERT_EQ(runner.synced, (u64)-KVM_ENOSYS);
	kvmi_stop(&runner);
}

/* The VMM can stop an event that was enabled, and let it go on. */
TEST_F(kvmi_event, disallowed_when_it_would_fire)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_store_hypercall);
	vcpu_args_set(self->vcpu[0], 2, KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT, 0);
	kvmi_enable_and_start(self->tool, &runner, self->vcpu[0], KVMI_VCPU_EVENT_HYPERCALL);

	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VCPU_EVENT_HYPERCALL, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	kvmi_wait_sync(&runner, 10);
	TEST_ASSERT_EQ(runner.synced, (u64)-KVM_ENOSYS);
	kvmi_expect_quiet(self->tool);

	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);

	/* Disabling by the tool stops it too. */
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_sync(&runner, runner.syncs + 10);
	TEST_ASSERT_EQ(runner.synced, (u64)-KVM_ENOSYS);
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner);
}

/* Registers that the tool sets get the result and the advanced rip on top. */
static void guest_hypercall_registers(void)
{
	u64 rax, rbx, rcx;

	asm volatile("mov $0x1111, %%ebx\n\t"
		     "mov $0x2222, %%ecx\n\t"
		     "mov %[nr], %%eax\n\t"
		     "mov %[op], %%edi\n\t"
		     "xor %%esi, %%esi\n\t"
		     "test %[amd], %[amd]\n\t"
		     "jnz 1f\n\t"
		     "vmcall\n\t"
		     "jmp 2f\n\t"
		     "1: vmmcall\n\t"
		     "2:\n\t"
		     : "=&a"(rax), "=&b"(rbx), "=&c"(rcx)
		     : [nr] "i"(KVM_HC_XEN_HVM_OP),
		       [op] "i"(KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT),
		       [amd] "r"((u64)host_cpu_is_amd_compatible)
		     : "rdi", "rsi", "memory", "cc");
	GUEST_ASSERT_EQ(rax, 0);
	GUEST_ASSERT_EQ(rbx, 0xabcd);
	GUEST_ASSERT_EQ(rcx, 0x2222);
	GUEST_DONE();
}

TEST_F(kvmi_event, hypercall_set_registers)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_hypercall_registers);
	kvmi_enable_and_start(self->tool, &runner, self->vcpu[0], KVMI_VCPU_EVENT_HYPERCALL);

	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	regs = ev.common.arch.regs;
	TEST_ASSERT_EQ(regs.rbx, 0x1111);

	/* The last one counts. */
	regs.rbx = 0xbad;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	regs.rbx = 0xabcd;
	regs.rax = 0xbad;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);

	/* Nothing has changed yet. */
	TEST_ASSERT_EQ(kvmi_get_registers(self->tool, 0, &regs), 0);
	TEST_ASSERT_EQ(regs.rbx, 0x1111);

	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

/* The command and the reply are sent at once: the order holds. */
TEST_F(kvmi_event, set_registers_and_reply_in_one_write)
{
	struct {
		struct kvmi_msg_hdr set_hdr;
		struct kvmi_vcpu_hdr set_vcpu;
		struct kvm_regs regs;
		struct kvmi_msg_hdr reply_hdr;
		struct kvmi_vcpu_hdr reply_vcpu;
		struct kvmi_vcpu_event_reply reply;
	} msg = {};
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_hypercall_registers);
	kvmi_enable_and_start(self->tool, &runner, self->vcpu[0], KVMI_VCPU_EVENT_HYPERCALL);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);

	msg.set_hdr.id = KVMI_VCPU_SET_REGISTERS;
	msg.set_hdr.size = sizeof(msg.set_vcpu) + sizeof(msg.regs);
	msg.set_hdr.seq = 7;
	msg.regs = ev.common.arch.regs;
	msg.regs.rbx = 0xabcd;
	msg.reply_hdr.id = KVMI_VCPU_EVENT;
	msg.reply_hdr.size = sizeof(msg.reply_vcpu) + sizeof(msg.reply);
	msg.reply_hdr.seq = ev.hdr.seq;
	msg.reply.event = KVMI_VCPU_EVENT_HYPERCALL;
	kvmi_write(self->tool, &msg, sizeof(msg));

	TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VCPU_SET_REGISTERS, 7,
				       NULL, 0, NULL), 0);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

static void guest_loop_sync(void)
{
	for (;;)
		GUEST_SYNC(1);
}

TEST_F(kvmi_event, pause)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u32 seq = 0;
	int i;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop_sync);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 1);

	for (i = 0; i < 100; i++) {
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, i & 1), 0);
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		TEST_ASSERT_EQ(ev.hdr.size, KVMI_EVENT_SIZE);
		TEST_ASSERT_EQ(ev.hdr.seq, ++seq);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}

	kvmi_expect_quiet(self->tool);
	kvmi_wait_sync(&runner, runner.syncs + 1);
	kvmi_stop(&runner);
}

static u64 guest_counter;

static void guest_count(void)
{
	kvmi_guest_may_spin();
	for (;;)
		WRITE_ONCE(guest_counter, guest_counter + 1);
}

/* After the last reply with wait=1 no vCPU executes guest code. */
TEST_F(kvmi_event, pause_wait)
{
	struct kvmi_runner runner[2];
	u64 *counter, now;
	struct kvmi_ev ev[2];
	int i, round;

	for (i = 0; i < 2; i++) {
		vcpu_arch_set_entry_point(self->vcpu[i], guest_count);
		kvmi_start(&runner[i], self->vcpu[i]);
	}
	counter = addr_gva2hva(self->vm, (gva_t)&guest_counter);
	while (!READ_ONCE(*counter))
		usleep(100);

	for (round = 0; round < 50; round++) {
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), 0);
		TEST_ASSERT_EQ(kvmi_pause(self->tool, 1, 1), 0);
		now = READ_ONCE(*counter);
		usleep(2000);
		TEST_ASSERT_EQ(READ_ONCE(*counter), now);

		for (i = 0; i < 2; i++) {
			TEST_ASSERT(kvmi_next_event(self->tool, &ev[i]), "Closed");
			TEST_ASSERT_EQ(ev[i].event.event, KVMI_VCPU_EVENT_PAUSE);
		}
		TEST_ASSERT(ev[0].common.vcpu != ev[1].common.vcpu, "Twice the same vCPU");
		TEST_ASSERT_EQ(READ_ONCE(*counter), now);

		/* One vCPU can go on while the other waits. */
		kvmi_reply(self->tool, &ev[1], KVMI_EVENT_ACTION_CONTINUE);
		while (READ_ONCE(*counter) == now)
			usleep(100);
		kvmi_reply(self->tool, &ev[0], KVMI_EVENT_ACTION_CONTINUE);
	}

	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

/* As many events as successful commands, whatever the vCPU does meanwhile. */
TEST_F(kvmi_event, pause_count)
{
	int sent = 0, got = 0, err;
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	/* The vCPU does not run: they add up, but not without limit. */
	do {
		err = kvmi_pause(self->tool, 0, sent & 1);
		sent += !err;
	} while (!err && sent < 100000);
	TEST_ASSERT_EQ(err, -KVM_EBUSY);
	TEST_ASSERT(sent >= 3, "Only %d pauses can be pending", sent);

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop_sync);
	kvmi_start(&runner, self->vcpu[0]);
	for (got = 0; got < sent; got++) {
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
		TEST_ASSERT_EQ(runner.syncs, 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_expect_quiet(self->tool);
	kvmi_wait_sync(&runner, 1);
	kvmi_stop(&runner);
}

/* Queued commands come before the pause event. */
TEST_F(kvmi_event, pause_comes_after_commands)
{
	struct kvmi_vcpu_get_info_reply info;
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u32 seq;

	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	seq = kvmi_send_vcpu(self->tool, KVMI_VCPU_GET_INFO, 0, NULL, 0);
	kvmi_expect_quiet(self->tool);

	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop_sync);
	kvmi_start(&runner, self->vcpu[0]);
	TEST_ASSERT_EQ(kvmi_recv_reply(self->tool, KVMI_VCPU_GET_INFO, seq, &info,
				       sizeof(info), NULL), 0);
	TEST_ASSERT(list_empty(&self->tool->events), "The event came first");
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

TEST_F(kvmi_event, pause_disallowed)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VCPU_EVENT_PAUSE, 0), 0);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), -KVM_EPERM);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), -KVM_EPERM);

	/* The one that was pending must not fire either. */
	vcpu_arch_set_entry_point(self->vcpu[0], guest_loop_sync);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_wait_sync(&runner, 1);
	kvmi_expect_quiet(self->tool);

	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VCPU_EVENT_PAUSE, 1), 0);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_stop(&runner);
}

/* A register set while paused is there afterwards. */
static void guest_wait_rbx(void)
{
	kvmi_guest_may_spin();
	/* Whatever is in rbx when the vCPU is paused: the guest does not set it. */
	asm volatile("1: cmp $0x77, %%rbx\n\t"
		     "jne 1b\n\t" : : : "cc");
	GUEST_DONE();
}

TEST_F(kvmi_event, pause_set_registers)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_wait_rbx);
	kvmi_start(&runner, self->vcpu[0]);

	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 1), 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	regs = ev.common.arch.regs;
	regs.rbx = 0x77;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

static u64 guest_breakpoints;

static void guest_bp_handler(struct ex_regs *regs)
{
	guest_breakpoints++;
}

static void guest_ud_handler(struct ex_regs *regs)
{
	regs->rip += 2;
}

extern u8 guest_int3[], guest_after_int3[];

static noinline void guest_execute_int3(void)
{
	/* See kvmi_int3_lacks(). */
	asm volatile("ud2");

	asm volatile("guest_int3: int3\n\t"
		     "guest_after_int3:\n\t" : : : "memory");
}

/* How often the guest's handler is called for one INT3. */
static void guest_breakpoint(u64 expected)
{
	guest_execute_int3();
	GUEST_ASSERT_EQ(READ_ONCE(guest_breakpoints), expected);
	GUEST_DONE();
}

static void install_handlers(struct kvm_vm *vm)
{
	vm_install_exception_handler(vm, BP_VECTOR, guest_bp_handler);
	vm_install_exception_handler(vm, UD_VECTOR, guest_ud_handler);
}

static struct kvmi_vcpu_event_breakpoint *bp_payload(struct kvmi_ev *ev)
{
	return (void *)ev->payload;
}

static void start_breakpoint(struct kvm_vm *vm, struct kvm_vcpu *vcpu,
			     struct kvmi_tool *tool, struct kvmi_runner *runner,
			     u64 expected)
{
	install_handlers(vm);
	vcpu_arch_set_entry_point(vcpu, guest_breakpoint);
	vcpu_args_set(vcpu, 1, expected);
	kvmi_enable_and_start(tool, runner, vcpu, KVMI_VCPU_EVENT_BREAKPOINT);
}

static void expect_breakpoint(struct kvm_vm *vm, struct kvmi_tool *tool,
			      struct kvmi_ev *ev)
{
	static const u8 zero[7];

	kvmi_expect_event(tool, 0, KVMI_VCPU_EVENT_BREAKPOINT, ev);
	TEST_ASSERT_EQ(ev->hdr.size, KVMI_EVENT_SIZE +
		       sizeof(struct kvmi_vcpu_event_breakpoint));
	TEST_ASSERT_EQ(ev->common.arch.regs.rip, (u64)guest_int3);
	TEST_ASSERT_EQ(bp_payload(ev)->gpa, addr_gva2gpa(vm, (gva_t)guest_int3));
	TEST_ASSERT_EQ(bp_payload(ev)->insn_len, 1);
	TEST_ASSERT(!memcmp(bp_payload(ev)->padding, zero, sizeof(zero)), "Padding");
}

/* CONTINUE: the guest gets its #BP, once. */
TEST_F(kvmi_event, breakpoint_continue)
{
	const char *lacks = kvmi_int3_lacks(true);
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	if (lacks)
		SKIP(return, "%s", lacks);

	start_breakpoint(self->vm, self->vcpu[0], self->tool, &runner, 1);
	expect_breakpoint(self->vm, self->tool, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
	kvmi_expect_quiet(self->tool);
}

/* RETRY with rip moved: the guest goes on there, and never hears of it. */
TEST_F(kvmi_event, breakpoint_retry_moved)
{
	const char *lacks = kvmi_int3_lacks(false);
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	if (lacks)
		SKIP(return, "%s", lacks);

	start_breakpoint(self->vm, self->vcpu[0], self->tool, &runner, 0);
	expect_breakpoint(self->vm, self->tool, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (u64)guest_after_int3;
	TEST_ASSERT_EQ(kvmi_set_registers(self->tool, 0, &regs), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

/* RETRY: the instruction is executed again, and raises the event again. */
TEST_F(kvmi_event, breakpoint_retry)
{
	const char *lacks = kvmi_int3_lacks(false);
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	u8 nop = 0x90;
	int i;

	if (lacks)
		SKIP(return, "%s", lacks);

	start_breakpoint(self->vm, self->vcpu[0], self->tool, &runner, 0);
	for (i = 0; i < 5; i++) {
		expect_breakpoint(self->vm, self->tool, &ev);
		if (i == 4)
			TEST_ASSERT_EQ(kvmi_write_physical(self->tool, bp_payload(&ev)->gpa,
							   &nop, 1), 0);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	}
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

/* Off again: KVM needs no interception of its own, the guest gets its #BP. */
TEST_F(kvmi_event, breakpoint_disabled)
{
	const char *lacks = kvmi_int3_lacks(false);
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	if (lacks)
		SKIP(return, "%s", lacks);

	install_handlers(self->vm);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_breakpoint);
	vcpu_args_set(self->vcpu[0], 1, 1ul);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	kvmi_enable_and_start(self->tool, &runner, self->vcpu[0], KVMI_VCPU_EVENT_BREAKPOINT);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 0, KVMI_VCPU_EVENT_BREAKPOINT, 0), 0);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
	kvmi_expect_quiet(self->tool);
}

/* The VMM's debugger and the tool: the tool first, then the debugger. */
TEST_F(kvmi_event, breakpoint_and_guest_debug)
{
	const char *lacks = kvmi_int3_lacks(true);
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP,
	};
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	if (lacks)
		SKIP(return, "%s", lacks);

	vcpu_guest_debug_set(self->vcpu[0], &debug);
	start_breakpoint(self->vm, self->vcpu[0], self->tool, &runner, 0);
	expect_breakpoint(self->vm, self->tool, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_DEBUG);
	TEST_ASSERT_EQ(self->vcpu[0]->run->debug.arch.exception, BP_VECTOR);
	TEST_ASSERT_EQ(self->vcpu[0]->run->debug.arch.pc, (u64)guest_int3);

	/* The debugger goes away, the tool stays. */
	memset(&debug, 0, sizeof(debug));
	vcpu_guest_debug_set(self->vcpu[0], &debug);
	vcpu_args_set(self->vcpu[0], 1, 1ul);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_breakpoint);
	kvmi_start(&runner, self->vcpu[0]);
	expect_breakpoint(self->vm, self->tool, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

/* The tool goes away, the debugger stays. */
TEST_F(kvmi_event, guest_debug_outlives_tool)
{
	const char *lacks = kvmi_int3_lacks(false);
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP,
	};
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	if (lacks)
		SKIP(return, "%s", lacks);

	vcpu_guest_debug_set(self->vcpu[0], &debug);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	start_breakpoint(self->vm, self->vcpu[0], self->tool, &runner, 0);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_unhook(self->vm);
	kvmi_join(&runner);
	TEST_ASSERT_EQ(runner.exit_reason, KVM_EXIT_DEBUG);
}

static void check_crashed(struct kvmi_runner *runner)
{
	struct kvm_run *run = runner->vcpu->run;

	kvmi_join(runner);
	TEST_ASSERT_EQ(runner->error, 0);
	TEST_ASSERT_EQ(runner->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(run->system_event.type, KVM_SYSTEM_EVENT_CRASH);
	TEST_ASSERT_EQ(run->system_event.ndata, 0);
}

/* CRASH: the VMM is told, and the instruction has had no effect. */
TEST_F(kvmi_event, hypercall_crash)
{
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_one_hypercall);
	kvmi_enable_and_start(self->tool, &runner, self->vcpu[0], KVMI_VCPU_EVENT_HYPERCALL);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	check_crashed(&runner);

	vcpu_regs_get(self->vcpu[0], &regs);
	TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
	TEST_ASSERT_EQ(regs.rax, KVM_HC_XEN_HVM_OP);

	/* A VMM that goes on nevertheless executes it again. */
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_join(&runner);
	TEST_ASSERT(runner.done, "The guest is not done");
}

TEST_F(kvmi_event, pause_crash)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	vcpu_arch_set_entry_point(self->vcpu[0], guest_one_hypercall);
	TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
	kvmi_start(&runner, self->vcpu[0]);
	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	check_crashed(&runner);
}

TEST_F(kvmi_event, breakpoint_crash)
{
	const char *lacks = kvmi_int3_lacks(false);
	struct kvmi_runner runner;
	struct kvm_regs regs;
	struct kvmi_ev ev;

	if (lacks)
		SKIP(return, "%s", lacks);

	start_breakpoint(self->vm, self->vcpu[0], self->tool, &runner, 1);
	expect_breakpoint(self->vm, self->tool, &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	check_crashed(&runner);
	vcpu_regs_get(self->vcpu[0], &regs);
	TEST_ASSERT_EQ(regs.rip, (u64)guest_int3);
}

/* Events are enabled for each vCPU alone, and both can wait at once. */
static void guest_hypercall_loop(void)
{
	for (;;) {
		kvmi_guest_hypercall();
		GUEST_SYNC(1);
	}
}

TEST_F(kvmi_event, two_vcpus)
{
	struct kvmi_runner runner[2];
	struct kvmi_ev ev[2];
	int i, round;

	vcpu_arch_set_entry_point(self->vcpu[1], guest_hypercall_loop);
	kvmi_start(&runner[1], self->vcpu[1]);
	vcpu_arch_set_entry_point(self->vcpu[0], guest_hypercall_loop);
	kvmi_enable_and_start(self->tool, &runner[0], self->vcpu[0], KVMI_VCPU_EVENT_HYPERCALL);

	/* Only vCPU 0 raises events. */
	for (i = 0; i < 10; i++) {
		kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev[0]);
		kvmi_wait_sync(&runner[1], runner[1].syncs + 1);
		kvmi_reply(self->tool, &ev[0], KVMI_EVENT_ACTION_CONTINUE);
	}

	kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_HYPERCALL, &ev[0]);
	TEST_ASSERT_EQ(kvmi_control_event(self->tool, 1, KVMI_VCPU_EVENT_HYPERCALL, 1), 0);
	kvmi_expect_event(self->tool, 1, KVMI_VCPU_EVENT_HYPERCALL, &ev[1]);

	/* Both wait; the replies come in either order. */
	for (round = 0; round < 100; round++) {
		kvmi_reply(self->tool, &ev[round & 1], KVMI_EVENT_ACTION_CONTINUE);
		kvmi_expect_event(self->tool, round & 1, KVMI_VCPU_EVENT_HYPERCALL,
				  &ev[round & 1]);
	}

	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(kvmi_control_event(self->tool, i, KVMI_VCPU_EVENT_HYPERCALL, 0), 0);
		kvmi_reply(self->tool, &ev[i], KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_expect_quiet(self->tool);
	kvmi_stop(&runner[0]);
	kvmi_stop(&runner[1]);
}

/* Two vCPUs, as fast as they can: no event is lost or doubled. */
TEST_F(kvmi_event, two_vcpus_busy)
{
	struct kvmi_runner runner[2];
	u64 events[2] = {};
	struct kvmi_ev ev;
	u32 seq = 0;
	int i;

	for (i = 0; i < 2; i++) {
		vcpu_arch_set_entry_point(self->vcpu[i], guest_hypercall_loop);
		kvmi_enable_and_start(self->tool, &runner[i], self->vcpu[i],
				      KVMI_VCPU_EVENT_HYPERCALL);
	}

	for (i = 0; i < 2000; i++) {
		TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Closed");
		TEST_ASSERT_EQ(ev.event.event, KVMI_VCPU_EVENT_HYPERCALL);
		TEST_ASSERT_EQ(ev.hdr.seq, ++seq);
		events[ev.common.vcpu]++;
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}

	kvmi_close(self->tool);
	for (i = 0; i < 2; i++) {
		/* Each event but the last one was followed by a step. */
		TEST_ASSERT(events[i], "vCPU %d raised no event", i);
		kvmi_wait_sync(&runner[i], events[i]);
		kvmi_stop(&runner[i]);
	}
}

TEST_F(kvmi_event, unhook_event)
{
	struct kvmi_ev ev;

	/* Nobody wants to know. */
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), ENOENT);

	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 1), 0);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), 0);
	TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Closed");
	TEST_ASSERT_EQ(ev.hdr.id, KVMI_VM_EVENT);
	TEST_ASSERT_EQ(ev.hdr.size, sizeof(struct kvmi_event_hdr));
	TEST_ASSERT_EQ(ev.hdr.seq, 1);
	TEST_ASSERT_EQ(ev.event.event, KVMI_VM_EVENT_UNHOOK);

	/* Nothing else has happened. */
	kvmi_check_version(self->tool);

	/* Not allowed any more, although it is enabled. */
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VM_EVENT_UNHOOK, 0), 0);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), ENOENT);
	TEST_ASSERT_EQ(kvmi_feature_errno(self->vm, KVM_INTROSPECTION_EVENT,
					  KVMI_VM_EVENT_UNHOOK, 1), 0);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), 0);
	TEST_ASSERT(kvmi_next_event(self->tool, &ev), "Closed");
	TEST_ASSERT_EQ(ev.hdr.seq, 2);

	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 0), 0);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), ENOENT);
	kvmi_expect_quiet(self->tool);

	/* The send fails: the tool is gone. */
	TEST_ASSERT_EQ(kvmi_control_vm_event(self->tool, KVMI_VM_EVENT_UNHOOK, 1), 0);
	kvmi_close(self->tool);
	TEST_ASSERT_EQ(kvmi_preunhook_errno(self->vm), ENOENT);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
