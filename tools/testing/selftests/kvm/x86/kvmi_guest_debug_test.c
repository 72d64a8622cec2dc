// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: single steps while the VMM debugs the guest with
 * KVM_SET_GUEST_DEBUG. Both get what they have asked for.
 */
#include "kvm_test_harness.h"
#include "kvmi_step.h"
#include "test_util.h"

#define DR6_BS		BIT(14)

KVMI_TEST_SUITE(kvmi_guest_debug, 1);

u64 guest_watched;

static void debug(struct kvm_vcpu *vcpu, struct kvm_guest_debug *debug, u32 control)
{
	debug->control = control ? KVM_GUESTDBG_ENABLE | control : 0;
	vcpu_guest_debug_set(vcpu, debug);
}

/* Code to step through. Something that KVM completes is among it. */
extern u64 plain_steps[];

asm(CODE("plain")
	S "nop\n\t"
	S "mov $5, %eax\n\t"
	S "mov %rax, guest_watched(%rip)\n\t"
	S "xor %eax, %eax\n\t"
	S "cpuid\n\t"
	S "nop\n\t"
	S "nop\n\t"
	S "nop\n\t"
	DONE
	CODE_END);
#define WRITE_STEP	2	/* writes guest_watched */
#define CODE_STEP	6	/* where there is a breakpoint */
#define LAST_STEP	8

/* The VMM has got an exit for its debugging, and what the exit tells. */
static u64 check_debug_exit(struct kvmi_runner *runner, u64 dr6)
{
	struct kvm_debug_exit_arch *exit = &runner->vcpu->run->debug.arch;

	kvmi_join(runner);
	TEST_ASSERT_EQ(runner->error, 0);
	TEST_ASSERT_EQ(runner->exit_reason, KVM_EXIT_DEBUG);
	TEST_ASSERT_EQ(exit->exception, DB_VECTOR);
	TEST_ASSERT((exit->dr6 & (DR6_BS | 0xf)) == dr6, "DR6 %llx at %llx, expected %lx",
		    exit->dr6, exit->pc, (unsigned long)dr6);

	return exit->pc;
}

static void expect_debug(struct kvmi_runner *runner, u64 dr6, u64 pc)
{
	TEST_ASSERT_EQ(check_debug_exit(runner, dr6), pc);
}

/*
 * Which of the two comes first is up to the processor. The event is not answered if the
 * vCPU still waits for that.
 */
static void expect_both(struct kvmi_tool *tool, struct kvmi_runner *runner, u64 dr6, u64 rip,
			struct kvmi_ev *ev)
{
	bool first;
	int ms = KVMI_TIMEOUT_MS;

	while (!(first = kvmi_readable(tool, 1)) && READ_ONCE(runner->running) && ms--)
		;
	if (first) {
		kvmi_expect_step(tool, 0, rip, ev);
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
		expect_debug(runner, dr6, rip);
		return;
	}
	expect_debug(runner, dr6, rip);
	kvmi_start(runner, runner->vcpu);
	kvmi_expect_step(tool, 0, rip, ev);
	kvmi_interrupt(runner);
	kvmi_stop(runner);
	kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_check_version(tool);
}

/* The tool steps from the first instruction on; the VMM debugs as @control says. */
static void start(struct kvmi_tool *tool, struct kvmi_runner *runner, struct kvm_vcpu *vcpu,
		  struct kvm_guest_debug *dbg, u32 control)
{
	kvmi_set_steps(vcpu, plain_steps, 0);
	/* KVM_SET_REGS ends the VMM's steps. */
	debug(vcpu, dbg, control);
	kvmi_start_stepping(tool, runner, vcpu);
}

/* Without the tool, step by step. */
static void step_alone(struct kvmi_runner *runner, struct kvm_vcpu *vcpu, int from)
{
	int i;

	for (i = from; i <= LAST_STEP; i++) {
		kvmi_start(runner, vcpu);
		expect_debug(runner, DR6_BS, plain_steps[i]);
	}
}

static void finish_alone(struct kvmi_runner *runner, struct kvm_vcpu *vcpu)
{
	struct kvm_guest_debug dbg = {};
	struct kvm_regs regs;

	debug(vcpu, &dbg, 0);
	kvmi_start(runner, vcpu);
	kvmi_expect_done(runner);
	vcpu_regs_get(vcpu, &regs);
	TEST_ASSERT(!(regs.rflags & X86_EFLAGS_TF), "TF is left in the guest");
}

/* Both of them step; then the tool, or its connection, goes, and the VMM goes on. */
TEST_F(kvmi_guest_debug, both_step)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	enum { OFF, CLOSE, UNHOOK, NR };
	struct kvm_guest_debug dbg = {};
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int how, last, i;

	for (how = 0; how < NR; how++) {
		for (last = 1; last < LAST_STEP; last += 2) {
			start(self->tool, &runner, vcpu, &dbg, KVM_GUESTDBG_SINGLESTEP);
			for (i = 1; i <= last; i++) {
				if (i > 1)
					kvmi_start(&runner, vcpu);
				expect_both(self->tool, &runner, DR6_BS, plain_steps[i], &ev);
			}
			switch (how) {
			case OFF:
				/* A command waits for the vCPU to run. */
				TEST_ASSERT_EQ(kvmi_pause(self->tool, 0, 0), 0);
				kvmi_start(&runner, vcpu);
				kvmi_expect_event(self->tool, 0, KVMI_VCPU_EVENT_PAUSE, &ev);
				TEST_ASSERT_EQ(ev.common.arch.regs.rip, plain_steps[last]);
				TEST_ASSERT_EQ(kvmi_control_singlestep(self->tool, 0, 0), 0);
				kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
				expect_debug(&runner, DR6_BS, plain_steps[last + 1]);
				step_alone(&runner, vcpu, last + 2);
				kvmi_expect_quiet(self->tool);
				break;
			case CLOSE:
				kvmi_close(self->tool);
				step_alone(&runner, vcpu, last + 1);
				break;
			case UNHOOK:
				kvmi_unhook(self->vm);
				step_alone(&runner, vcpu, last + 1);
				break;
			}
			finish_alone(&runner, vcpu);
			self->tool = kvmi_rehook(self->tool);
		}
	}
}

/* The VMM stops its stepping, or begins with it: the tool does not notice. */
TEST_F(kvmi_guest_debug, vmm_begins_and_stops)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvm_guest_debug dbg = {};
	struct kvmi_runner runner;
	struct kvmi_ev ev;

	start(self->tool, &runner, vcpu, &dbg, 0);
	kvmi_expect_step(self->tool, 0, plain_steps[1], &ev);
	kvmi_stop(&runner);
	debug(vcpu, &dbg, KVM_GUESTDBG_SINGLESTEP);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_start(&runner, vcpu);
	expect_both(self->tool, &runner, DR6_BS, plain_steps[2], &ev);
	kvmi_start(&runner, vcpu);
	expect_both(self->tool, &runner, DR6_BS, plain_steps[3], &ev);
	debug(vcpu, &dbg, 0);
	kvmi_start(&runner, vcpu);
	kvmi_expect_step(self->tool, 0, plain_steps[4], &ev);
	kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_step(self->tool, 0, plain_steps[5], &ev);
	kvmi_finish_stepping(self->tool, &runner, &ev);
}

/* The VMM's breakpoint on a write: one of the steps ends with it. */
TEST_F(kvmi_guest_debug, data_breakpoint)
{
	struct kvm_guest_debug dbg = {
		.arch.debugreg[0] = (u64)&guest_watched,
		/* L0, 8 bytes, writes */
		.arch.debugreg[7] = 0x00090401,
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i, round;

	for (round = 0; round < 2; round++) {
		start(self->tool, &runner, vcpu, &dbg, KVM_GUESTDBG_USE_HW_BP);
		for (i = 1; i <= WRITE_STEP; i++) {
			kvmi_expect_step(self->tool, 0, plain_steps[i], &ev);
			kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		expect_both(self->tool, &runner, 1, plain_steps[WRITE_STEP + 1], &ev);
		kvmi_start(&runner, vcpu);
		kvmi_expect_step(self->tool, 0, plain_steps[WRITE_STEP + 2], &ev);
		kvmi_finish_stepping(self->tool, &runner, &ev);
	}

	/* It stays when the tool goes. */
	start(self->tool, &runner, vcpu, &dbg, KVM_GUESTDBG_USE_HW_BP);
	kvmi_expect_step(self->tool, 0, plain_steps[1], &ev);
	kvmi_unhook(self->vm);
	expect_debug(&runner, 1, plain_steps[WRITE_STEP + 1]);
	finish_alone(&runner, vcpu);
}

/* And on an instruction: it comes before that is executed, and is no step. */
TEST_F(kvmi_guest_debug, code_breakpoint)
{
	struct kvm_guest_debug dbg = {
		.arch.debugreg[0] = plain_steps[CODE_STEP],
		.arch.debugreg[7] = 0x401,
	};
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int i;

	start(self->tool, &runner, vcpu, &dbg, KVM_GUESTDBG_USE_HW_BP);
	for (i = 1; i <= CODE_STEP; i++) {
		kvmi_expect_step(self->tool, 0, plain_steps[i], &ev);
		kvmi_reply(self->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	expect_debug(&runner, 1, plain_steps[CODE_STEP]);
	kvmi_expect_quiet(self->tool);
	debug(vcpu, &dbg, 0);
	kvmi_start(&runner, vcpu);
	kvmi_expect_step(self->tool, 0, plain_steps[CODE_STEP + 1], &ev);
	kvmi_finish_stepping(self->tool, &runner, &ev);

	/* It stays when the tool goes. */
	start(self->tool, &runner, vcpu, &dbg, KVM_GUESTDBG_USE_HW_BP);
	kvmi_expect_step(self->tool, 0, plain_steps[1], &ev);
	kvmi_unhook(self->vm);
	expect_debug(&runner, 1, plain_steps[CODE_STEP]);
	finish_alone(&runner, vcpu);
}

int main(int argc, char *argv[])
{
	KVMI_REQUIRE();

	return test_harness_run(argc, argv);
}
