/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KVM introspection: what an x86 vCPU keeps for the tool.
 */
#ifndef _ASM_X86_KVMI_HOST_H
#define _ASM_X86_KVMI_HOST_H

#include <linux/types.h>
#include <asm/kvmi.h>

/* Where an exception is that the tool wants to be injected. */
enum kvmi_inject_state {
	KVMI_INJECT_NONE,
	KVMI_INJECT_ASKED,	/* to be queued before the guest is entered */
	KVMI_INJECT_QUEUED,	/* KVM has it, or what came before it */
};

/* How the next instruction is stepped over with RFLAGS.TF. */
enum kvmi_step_insn {
	KVMI_STEP_PLAIN,	/* it leaves TF as it is */
	KVMI_STEP_LOADS_TF,	/* it loads the guest's own TF */
	KVMI_STEP_SYSRET,	/* it loads TF from r11, and that TF is what traps */
};

/* How far a step with RFLAGS.TF is. */
enum kvmi_step_state {
	KVMI_STEP_NONE,
	KVMI_STEP_TF,		/* the guest runs with TF set */
	KVMI_STEP_TRAPPED,	/* the #DB that is about to be handled ends it */
	KVMI_STEP_DELIVERS,	/* the guest is entered to deliver an event */
	KVMI_STEP_DELIVERED,	/* that was the step */
};

/**
 * struct kvmi_vcpu_arch - part of struct kvm_vcpu_arch
 * @shares: a tool has wanted something to be intercepted since the vCPU exists:
 *	    what KVM does not compute without that is to be computed
 * @intercepts: what the tool needs to be intercepted, KVMI_INTERCEPT_*
 * @msrs: the MSRs whose writes it wants to see, a bit each; NULL as long as
 *	  there was none
 * @inject: state of @trap
 * @step_insn: the instruction at rip, where RFLAGS.TF is used for stepping
 * @step: how far that is
 * @step_guest_tf: RFLAGS.TF as the guest has it
 * @step_r11_tf: TF in r11 as the guest has it, for SYSRET
 * @wants_step: the tool wants the vCPU to be single-stepped
 * @step_over: an instruction is stepped over that accesses restricted pages
 * @step_done: an instruction is done that the tool is to be told of
 * @trap: what is to be injected
 *
 * @shares, @intercepts and @msrs are changed by the vCPU's thread while the connection is
 * published, and by the receiver after it was withdrawn. The rest belongs to the
 * vCPU's thread while the connection is published.
 */
struct kvmi_vcpu_arch {
	bool shares;
	u32 intercepts;
	unsigned long *msrs;
	enum kvmi_inject_state inject;
	enum kvmi_step_insn step_insn;
	enum kvmi_step_state step;
	bool step_guest_tf;
	bool step_r11_tf;
	bool wants_step;
	bool step_over;
	bool step_done;
	struct kvmi_vcpu_event_trap trap;
};

#endif /* _ASM_X86_KVMI_HOST_H */
