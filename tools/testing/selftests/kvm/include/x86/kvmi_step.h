/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest code that an introspection tool single-steps through, for tests.
 */
#ifndef SELFTEST_KVM_KVMI_STEP_H
#define SELFTEST_KVM_KVMI_STEP_H

#include "kvmi_util.h"

/*
 * Code to step through: S marks an instruction, whose address is then in the array
 * NAME_steps. The guest starts at the first one.
 */
#define CODE(name)	".pushsection .rodata\n\t.balign 8\n\t"		\
			name "_steps:\n\t.popsection\n\t"		\
			".pushsection .text\n\t"
#define S		".pushsection .rodata\n\t.quad 771f\n\t.popsection\n\t771: "
#define DONE		S "jmp kvmi_guest_done\n\t"
#define CODE_END	".popsection"

/*
 * Where the guest is after each step, as indexes of the array with the addresses.
 * OWN_TF: the guest has set RFLAGS.TF itself. OPTIONAL: processors may tell of this
 * boundary or not.
 */
#define OWN_TF		0x100
#define OPTIONAL	0x200
#define INDEX(step)	((step) & 0xff)
#define END		0xffff

struct kvmi_step_case {
	const char *name;
	u64 *steps;
	u8 vector;		/* if not 0: the guest handles it */
	u8 handler;		/* at this step */
	u64 rdi;
	u16 path[64];
	void (*check)(const struct kvm_regs *regs);
};

#define CASE(n) .name = #n, .steps = n##_steps

void kvmi_check_no_tf(u64 flags);

/* Have the guest handle a vector at some place, or start at the first of some steps. */
void kvmi_set_gate(struct kvm_vm *vm, int vector, u64 handler);
void kvmi_set_steps(struct kvm_vcpu *vcpu, const u64 *steps, u64 rdi);
void kvmi_set_case(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c);
void kvmi_run_unwatched(struct kvm_vcpu *vcpu, const struct kvmi_step_case *c);

void kvmi_start_stepping(struct kvmi_tool *tool, struct kvmi_runner *runner,
			 struct kvm_vcpu *vcpu);
void kvmi_check_step(const struct kvmi_ev *ev);
u64 kvmi_next_step(struct kvmi_tool *tool, u16 vcpu, struct kvmi_ev *ev);
void kvmi_expect_step(struct kvmi_tool *tool, u16 vcpu, u64 rip, struct kvmi_ev *ev);
bool kvmi_is_misplaced(const struct kvm_regs *before, const struct kvm_regs *now);
bool kvmi_follow(struct kvmi_tool *tool, u16 vcpu, const struct kvmi_step_case *c,
		 struct kvmi_ev *ev);
void kvmi_finish_stepping(struct kvmi_tool *tool, struct kvmi_runner *runner,
			  const struct kvmi_ev *ev);
bool kvmi_test_case(struct kvmi_tool *tool, struct kvm_vcpu *vcpu,
		    const struct kvmi_step_case *c);

#endif
