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

/* The name of an MSR, or its index */
const char *msr_text(__u32 msr, char buf[MSR_NAME])
{
	const char *name = kvmi_msr_name(msr);

	if (name)
		return name;
	snprintf(buf, MSR_NAME, "0x%x", msr);
	return buf;
}

/* Those that KVM can intercept, as far as the numbers tell */
static bool is_watchable(__u64 msr)
{
	if (msr >= 0x800 && msr <= 0x8ff)
		return false;
	return msr <= 0x1fff || (msr >= 0xc0000000 && msr <= 0xc0001fff);
}

/* An MSR whose writes are to be seen; 0, or the exit code after having said why */
int parse_msr(struct tool *tool, const char *s, __u32 *msr)
{
	__u64 n;

	if (kvmi_msr_index(s, msr))
		return 0;
	if (!parse_number(s, &n))
		return fail(tool, STATUS_USAGE,
			    "%s is no MSR: a name such as LSTAR, or a number such as 0xc0000082, is needed",
			    s);
	if (!is_watchable(n))
		return fail(tool, STATUS_USAGE,
			    "MSR %s cannot be intercepted: 0 to 0x7ff, 0x900 to 0x1fff and 0xc0000000 to 0xc0001fff can",
			    s);
	*msr = n;
	return 0;
}
