// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi: names of x86 registers.
 */
#include <stddef.h>
#include <string.h>

#include "tool.h"

#define REG(r)	{ #r, offsetof(struct kvm_regs, r) }

const struct register_name register_names[18] = {
	REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi), REG(rbp), REG(rsp),
	REG(r8), REG(r9), REG(r10), REG(r11), REG(r12), REG(r13), REG(r14), REG(r15),
	REG(rip), REG(rflags),
};

__u64 register_value(const struct kvm_regs *regs, const struct register_name *name)
{
	__u64 value;

	memcpy(&value, (const char *)regs + name->offset, sizeof(value));
	return value;
}

/* The processor has it in SS, whatever the mode. */
unsigned int privilege_level(const struct kvmi_vcpu_event_arch *state)
{
	return state->sregs.ss.dpl;
}
