// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest code that an introspection tool single-steps through, for tests.
 */
#include "kvmi_step.h"
#include "test_util.h"

/* The flags that the guest has seen. */
void kvmi_check_no_tf(u64 flags)
{
	TEST_ASSERT(flags & X86_EFLAGS_FIXED, "%lx: no flags", (unsigned long)flags);
	TEST_ASSERT(!(flags & X86_EFLAGS_TF), "The guest sees TF: %lx", (unsigned long)flags);
}

void kvmi_set_gate(struct kvm_vm *vm, int vector, u64 handler)
{
	struct idt_entry *gate = addr_gva2hva(vm, vm->arch.idt);

	gate += vector;
	gate->offset0 = handler;
	gate->offset1 = handler >> 16;
	gate->offset2 = handler >> 32;
}

void kvmi_set_steps(struct kvm_vcpu *vcpu, const u64 *steps, u64 rdi)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rip = steps[0];
	regs.rsp = (regs.rsp & ~0xfull) - 8;
	regs.rbx = 0;
	regs.rdi = rdi;
	vcpu_regs_set(vcpu, &regs);
}

void kvmi_set_case(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c)
{
	if (c->vector)
		kvmi_set_gate(vcpu->vm, c->vector, c->steps[c->handler]);
	kvmi_set_steps(vcpu, c->steps, c->rdi);
}

/* As it is without the tool; it also maps the memory that the guest needs. */
void kvmi_run_unwatched(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c)
{
	struct kvmi_runner runner;

	kvmi_set_case(vcpu, c);
	kvmi_start(&runner, vcpu);
	kvmi_expect_done(&runner);
}

/* The vCPU has executed nothing yet, and every instruction will be followed by an event. */
void kvmi_start_stepping(struct kvmi_tool *tool, struct kvmi_runner *runner,
			 struct kvm_vcpu *vcpu)
{
	struct kvmi_ev ev;

	kvmi_start_paused(tool, runner, vcpu, &ev);
	TEST_ASSERT_EQ(kvmi_control_singlestep(tool, vcpu->id, 1), 0);
	kvmi_expect_quiet(tool);
	kvmi_reply(tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
}

void kvmi_check_step(const struct kvmi_ev *ev)
{
	const struct kvmi_vcpu_event_singlestep *payload = (void *)ev->payload;
	static const u8 zero[7];

	kvmi_expect_payload(ev, sizeof(*payload));
	TEST_ASSERT(!memcmp(payload->padding, zero, sizeof(zero)), "Padding");
	TEST_ASSERT(!payload->failed, "The step to %llx has failed", ev->common.arch.regs.rip);
}

u64 kvmi_next_step(struct kvmi_tool *tool, u16 vcpu, struct kvmi_ev *ev)
{
	kvmi_expect_event(tool, vcpu, KVMI_VCPU_EVENT_SINGLESTEP, ev);
	kvmi_check_step(ev);

	return ev->common.arch.regs.rip;
}

void kvmi_expect_step(struct kvmi_tool *tool, u16 vcpu, u64 rip, struct kvmi_ev *ev)
{
	u64 now = kvmi_next_step(tool, vcpu, ev);

	TEST_ASSERT(now == rip, "The step has led to %lx instead of %lx",
		    (unsigned long)now, (unsigned long)rip);
	TEST_ASSERT(!(ev->common.arch.regs.rflags & X86_EFLAGS_TF), "The tool sees TF");
}

/*
 * With more than one processor, Bochs 3.0 leaves a guest that has just been given
 * a fault with the rip of the instruction that caused it.
 */
bool kvmi_is_misplaced(const struct kvm_regs *before, const struct kvm_regs *now)
{
	return !host_cpu_is_amd_compatible && now->rip == before->rip &&
	       now->rsp < before->rsp;
}

/* Step along the path; the last event is not answered. Returns false if the host errs. */
bool kvmi_follow(struct kvmi_tool *tool, u16 vcpu, const struct kvmi_step_case *c,
		 struct kvmi_ev *ev)
{
	struct kvm_regs before = {};
	const u16 *at = c->path;
	u64 rip;

	for (;; at++) {
		rip = kvmi_next_step(tool, vcpu, ev);
		if (c->vector && kvmi_is_misplaced(&before, &ev->common.arch.regs))
			return false;
		before = ev->common.arch.regs;
		while ((*at & OPTIONAL) && rip != c->steps[INDEX(*at)])
			at++;
		TEST_ASSERT(rip == c->steps[INDEX(*at)],
			    "%s, step %ld: the guest is at %lx instead of %lx", c->name,
			    (long)(at - c->path), (unsigned long)rip,
			    (unsigned long)c->steps[INDEX(*at)]);
		TEST_ASSERT(!!(ev->common.arch.regs.rflags & X86_EFLAGS_TF) ==
			    !!(*at & OWN_TF), "%s, step %ld: flags %llx", c->name,
			    (long)(at - c->path), ev->common.arch.regs.rflags);
		if (at[1] == END)
			break;
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	if (c->check)
		c->check(&ev->common.arch.regs);

	return true;
}

/* No step is left when the guest goes on. */
void kvmi_finish_stepping(struct kvmi_tool *tool, struct kvmi_runner *runner,
			  const struct kvmi_ev *ev)
{
	struct kvm_regs regs;

	TEST_ASSERT_EQ(kvmi_control_singlestep(tool, runner->vcpu->id, 0), 0);
	kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_expect_done(runner);
	kvmi_expect_quiet(tool);
	vcpu_regs_get(runner->vcpu, &regs);
	TEST_ASSERT(!(regs.rflags & X86_EFLAGS_TF), "TF is left in the guest");
}

/*
 * Twice: with memory that is still to be mapped, and with memory that is. Returns
 * false if the host errs.
 */
bool kvmi_test_case(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
		    const struct kvmi_step_case *c)
{
	struct kvmi_runner runner;
	struct kvmi_ev ev;
	int round;

	for (round = 0; round < 2; round++) {
		if (c->vector)
			kvmi_run_unwatched(vcpu, c);
		kvmi_set_case(vcpu, c);
		kvmi_start_stepping(tool, &runner, vcpu);
		if (!kvmi_follow(tool, 0, c, &ev))
			return false;
		kvmi_finish_stepping(tool, &runner, &ev);
	}

	/* And it works as before. */
	kvmi_run_unwatched(vcpu, c);
	kvmi_expect_quiet(tool);

	return true;
}
