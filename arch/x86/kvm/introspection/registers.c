// SPDX-License-Identifier: GPL-2.0
/*
 * KVM introspection: registers of an x86 vCPU.
 */
#include <linux/kvmi_host.h>

#include "msrs.h"
#include "regs.h"
#include "x86.h"

#include "registers.h"

/**
 * kvmi_get_registers - get what a tool sees as the registers
 * @vcpu: the vCPU of the calling thread, loaded
 * @regs: out
 * @sregs: out; zeroed by the caller
 *
 * Return: operand size of the code segment: 2, 4 or 8 bytes
 */
u8 kvmi_get_registers(struct kvm_vcpu *vcpu, struct kvm_regs *regs,
		      struct kvm_sregs *sregs)
{
	__get_regs(vcpu, regs);
	__get_sregs(vcpu, sregs);

	if ((sregs->efer & EFER_LMA) && sregs->cs.l)
		return 8;

	return sregs->cs.db ? 4 : 2;
}

static u64 kvmi_read_msr(struct kvm_vcpu *vcpu, u32 index)
{
	u64 data;

	return __kvm_emulate_msr_read(vcpu, index, &data) ? 0 : data;
}

/**
 * kvmi_arch_get_event_state - describe the vCPU in an event
 * @vcpu: the vCPU of the calling thread, which holds kvm->srcu
 * @arch: out; zeroed by the caller before its first use, every byte goes to
 *	  the tool
 */
void kvmi_arch_get_event_state(struct kvm_vcpu *vcpu,
			       struct kvmi_vcpu_event_arch *arch)
{
	memset(arch->sregs.interrupt_bitmap, 0,
	       sizeof(arch->sregs.interrupt_bitmap));
	arch->mode = kvmi_get_registers(vcpu, &arch->regs, &arch->sregs);

	arch->msrs.sysenter_cs = kvmi_read_msr(vcpu, MSR_IA32_SYSENTER_CS);
	arch->msrs.sysenter_esp = kvmi_read_msr(vcpu, MSR_IA32_SYSENTER_ESP);
	arch->msrs.sysenter_eip = kvmi_read_msr(vcpu, MSR_IA32_SYSENTER_EIP);
	arch->msrs.efer = arch->sregs.efer;
	arch->msrs.pat = kvmi_read_msr(vcpu, MSR_IA32_CR_PAT);
	arch->msrs.star = kvmi_read_msr(vcpu, MSR_STAR);
#ifdef CONFIG_X86_64
	arch->msrs.lstar = kvmi_read_msr(vcpu, MSR_LSTAR);
	arch->msrs.cstar = kvmi_read_msr(vcpu, MSR_CSTAR);
	arch->msrs.shadow_gs = kvmi_read_msr(vcpu, MSR_KERNEL_GS_BASE);
#endif
}

/**
 * kvmi_arch_same_instruction - is this the same instruction of the same task
 * @a: state of a vCPU
 * @b: earlier state of the same vCPU
 *
 * Return: true if everything that the instruction can see is equal
 */
bool kvmi_arch_same_instruction(const struct kvmi_vcpu_event_arch *a,
				const struct kvmi_vcpu_event_arch *b)
{
	/* An interrupt that came first may have set RF. */
	return !((a->regs.rflags ^ b->regs.rflags) & ~X86_EFLAGS_RF) &&
	       !memcmp(&a->regs, &b->regs, offsetof(struct kvm_regs, rflags)) &&
	       a->mode == b->mode &&
	       a->sregs.cs.base == b->sregs.cs.base &&
	       a->sregs.cr3 == b->sregs.cr3 &&
	       a->sregs.cr0 == b->sregs.cr0 &&
	       a->sregs.cr4 == b->sregs.cr4 &&
	       a->sregs.efer == b->sregs.efer;
}

/**
 * kvmi_arch_set_registers - make the tool's registers those of the guest
 * @vcpu: the vCPU of the calling thread, loaded
 * @regs: from the tool
 *
 * An exception that is pending is kept.
 */
void kvmi_arch_set_registers(struct kvm_vcpu *vcpu, const struct kvm_regs *regs)
{
	__set_gprs(vcpu, regs);
}
